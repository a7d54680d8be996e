"""Runs the code blocks of a page of the documentation, from top to bottom, in a folder of its own.

What is done with a block depends on its language:

============= ========================================================================================================
``python``    Executed; the names stay for the blocks below. With ``>>>`` each output is compared.
``console``   Each ``$ command`` is run by a shell. The lines below it are what it must print, ``...`` standing for
              anything; without any, it must end well. A worker, with ``&`` or without, runs until the page ends.
``toml``      Parsed.
``json``      Parsed.
``text``      A picture or an output: nothing to run.
============= ========================================================================================================

A block whose first line is ``# name.ext`` is also saved as that file; a Python file is imported rather than executed.
A block in any other language is an error, since nothing would keep it true.
"""

import doctest
import importlib
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sybil import Document, Example, Region, Sybil
from sybil.evaluators.doctest import DocTestEvaluator
from sybil.evaluators.python import PythonEvaluator
from sybil.example import SybilFailure
from sybil.parsers.abstract.doctest import DocTestStringParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from queuekit.app import Queuekit
from support.commands import MAIN, python
from support.preloaded import Preloaded

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
DIRECTIVES = frozenset({"{toctree}", "{eval-rst}"})
"""Fences that instruct the documentation builder, and show no code."""
ELSEWHERE = re.compile(r"git clone|python3? -m venv|(\S*/)?(pip|tox|ruff|pytest|sphinx-build)\b")
"""Commands of installing and developing; tests/integration/test_packaging.py carries out those of the README."""
WORKER = re.compile(r"queuekit worker\b(?!.*--burst)")
FILE = re.compile(r"# (?P<name>[\w./-]+\.\w+)\n")
COMMAND = re.compile(r"^\$ (?P<command>.+)\n(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)
SIMPLE = re.compile(r"""(exec )?queuekit ([^|&;<>$`*?~#(){}'"]|'[^']*'|"[^"$`\\]*"|(?<= )#.*)*""")
"""Commands of ours that need nothing of a shell but its quotes and comments."""
TESTS = re.compile(r"(?:(?P<name>\w+)=(?P<value>\S+) )?python -m (?P<words>(?:pytest|unittest) [\w./: -]+)")
"""Commands that run a reader's tests."""
LONGEST_COMMAND = 300.0
ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""Keeps a reader's pytest from loading the plugins of ours, which takes as long as the tests of a page."""


def read(path: Path) -> Document:
    """Return the page at *path*, its code blocks found but not yet run."""
    return Sybil(parsers=[_blocks], path=str(path.parent)).parse(path)


def run(document: Document, folder: Path) -> None:
    """Run all blocks of *document* in *folder*.

    Raises:
        SybilFailure: A block did something else than the page says.
    """
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        stack.enter_context(_forgetting_modules_of(folder))
        stack.enter_context(_restoring_logs())
        document.namespace["page"] = stack
        stack.callback(_close_apps, document.namespace)
        for example in document.examples():
            example.evaluate()


def _close_apps(namespace: dict[str, Any]) -> None:
    """Close the connections of each app that a page has made."""
    for value in list(namespace.values()):
        if isinstance(value, Queuekit):
            value.close()


@contextmanager
def _forgetting_modules_of(folder: Path) -> Iterator[None]:
    """Forget on exit what was imported from *folder*, since other pages have a ``tasks.py`` of their own."""
    try:
        yield
    finally:
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(f"{folder}{os.sep}"):
                del sys.modules[name]


@contextmanager
def _restoring_logs() -> Iterator[None]:
    """Undo on exit what a page sets up for its logs: the tests after it look at records, too."""
    before = {log: (log.level, log.handlers[:], log.propagate, log.disabled) for log in _logs()}
    try:
        yield
    finally:
        for log in _logs():
            log.level, log.handlers[:], log.propagate, log.disabled = before.get(log, (logging.NOTSET, [], True, False))
        logging.root.setLevel(logging.root.level)  # forgets which loggers were found to be enabled


def _logs() -> list[logging.Logger]:
    return [logging.root, *(log for log in logging.root.manager.loggerDict.values() if isinstance(log, logging.Logger))]


def _blocks(document: Document) -> Iterable[Region]:
    """Yield the fenced blocks of *document*, each with what evaluates it."""
    for region in RawFencedCodeBlockLexer(re.compile(r"(?P<language>[^\n]*)\n"))(document):
        language = region.lexemes["language"].strip()
        if language in DIRECTIVES:
            continue
        region.parsed = region.lexemes["source"]
        if language == "python" and region.parsed.startswith(">>>"):
            yield from _doctests(document, region)
        else:
            region.evaluator = EVALUATORS.get(language, _refuse)
            yield region


def _doctests(document: Document, region: Region) -> Iterator[Region]:
    """Yield each ``>>>`` of a block."""
    for test in DocTestStringParser(DocTestEvaluator(OPTIONS))(region.parsed, document.path):
        test.adjust(region, region.parsed)
        yield test


def _refuse(example: Example) -> str:
    """Complain about a block that nothing runs."""
    return f"no test runs blocks in {example.region.lexemes['language']!r}; known: {', '.join(EVALUATORS)}"


def _save(example: Example) -> Path | None:
    """Write the file that a block names in its first line, and return its path."""
    named = FILE.match(example.parsed)
    if not named:
        return None
    path = Path(named["name"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(example.parsed, encoding="utf-8")
    return path


def _python(example: Example) -> None:
    """Execute a block, or save and import it."""
    path = _save(example)
    if path is None:
        PythonEvaluator()(example)
        return
    importlib.invalidate_caches()
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    example.namespace.update({name: value for name, value in vars(module).items() if not name.startswith("_")})


def _parsed_by(parse: Callable[[str], object]) -> Callable[[Example], None]:
    """Return what checks and saves a block of a data format."""

    def evaluate(example: Example) -> None:
        parse(example.parsed)
        _save(example)

    return evaluate


def _console(example: Example) -> None:
    """Run the commands of a block and compare what they print."""
    commands = list(COMMAND.finditer(example.parsed))
    if not commands:
        raise SybilFailure(example, "a console block needs a line that starts with '$ '")
    for found in commands:
        command = found["command"]
        if ELSEWHERE.match(command):
            continue
        if WORKER.search(command):
            example.namespace["page"].enter_context(_worker(example, command, found["output"]))
        else:
            _compare(example, command, found["output"], *_run(command))


def _run(command: str) -> tuple[int, str]:
    """Run *command* to its end, and return its exit code and output; tests run where queuekit has been imported."""
    found = TESTS.fullmatch(command)
    if found is None:
        return _finish(_start(command), LONGEST_COMMAND)
    module, *words = found["words"].split()
    program = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    settings = {found["name"]: found["value"]} if found["name"] else {}
    done = python(program, *words, folder=Path.cwd(), **ALONE, **settings)
    return done.returncode, done.stdout + done.stderr


def _start(command: str) -> subprocess.Popen[str]:
    """Start *command* as a reader would: in the page's folder, with the commands installed beside this Python.

    Where no shell is needed, the process is a fork of one that has imported the command line before.
    """
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = {name: value for name, value in os.environ.items() if not name.startswith("QUEUEKIT_")}
    simple = SIMPLE.fullmatch(command)
    start = Preloaded if simple else subprocess.Popen
    return start(
        [*MAIN, *shlex.split(command.removeprefix("exec "), comments=True)[1:]]
        if simple
        else [shutil.which("bash") or "/bin/sh", "-c", command],
        env={**settings, **ALONE, "PATH": here, "NO_COLOR": "1", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _finish(process: subprocess.Popen[str], timeout: float) -> tuple[int, str]:
    """Return exit code and output of *process*, which is killed with its children when the time is over."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        output += f"\n(killed after {timeout:g} s)"
    return process.returncode, output


@contextmanager
def _worker(example: Example, command: str, expected: str) -> Iterator[None]:
    """Keep a worker running until the page is through; then stop it and look at what it printed."""
    process = _start(f"exec {command.removesuffix(' &')}")
    try:
        yield
    finally:
        assert process.stdout is not None
        banner = process.stdout.readline()  # a signal that comes before would end a worker that cannot handle it yet
        process.terminate()
        code, output = _finish(process, LONGEST_COMMAND)
    _compare(example, command, expected, code, banner + output)


def _compare(example: Example, command: str, expected: str, code: int, output: str) -> None:
    """Complain unless *command* ended and printed as the page says; a page that shows an error wants one."""
    wants_error = expected.startswith("Error ")
    printed = not expected.strip() or doctest.OutputChecker().check_output(expected, output, OPTIONS)
    if bool(code) is not wants_error or not printed:
        raise SybilFailure(example, f"$ {command}\nexit code {code}\nexpected:\n{expected}\nprinted:\n{output}")


EVALUATORS: dict[str, Callable[[Example], str | None]] = {
    "python": _python,
    "console": _console,
    "toml": _parsed_by(tomllib.loads),
    "json": _parsed_by(json.loads),
    "text": lambda _example: None,
}
