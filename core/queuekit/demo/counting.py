"""What the demo counts: Python files, taken apart with ``ast``; plain functions that know nothing of queues."""

from __future__ import annotations

import ast
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import attrs

__all__ = ["FileCount", "Function", "Totals", "add_up", "count_all", "count_file", "find_sources"]

LONGEST = 10
"""How many of the longest functions are kept."""
_SKIPPED = frozenset({"__pycache__", "dist-packages", "node_modules", "site-packages"})
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where statements hold others."""
_PARSING = threading.Lock()
"""Held while a file is parsed: in Python 3.11 two threads that do so at once may get a SystemError (gh-106905)."""
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@attrs.frozen
class Function:
    """A function or method."""

    name: str
    """With the classes and functions around it: ``Parser.parse``."""
    file: str
    first_line: int
    lines: int

    @property
    def order(self) -> tuple[int, str, int]:
        """Key that sorts the longest first; no two functions that differ are equal in it."""
        return -self.lines, self.file, self.first_line


@attrs.frozen
class FileCount:
    """What is in one file; of an unreadable one, nothing."""

    file: str
    """Path below the directory that is counted."""
    lines: int = 0
    functions: int = 0
    classes: int = 0
    imports: int = 0
    longest: tuple[Function, ...] = ()
    """The longest functions, at most ten."""
    unreadable: str = ""
    """Why Python cannot read it: name of an error; empty if it can."""


@attrs.frozen
class Totals:
    """What is in all files together."""

    files: int
    unreadable: int
    lines: int
    functions: int
    classes: int
    imports: int
    longest: tuple[Function, ...]


def find_sources(directory: Path) -> list[str]:
    """Return the Python files below *directory*, as paths relative to it, sorted.

    Hidden directories are left out, and those of installed packages: they are not its own sources.
    """
    found = []
    for folder, subfolders, names in os.walk(directory):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED and not name.startswith(".")]
        paths = (Path(folder, name) for name in names if name.endswith(".py"))
        found += [path.relative_to(directory).as_posix() for path in paths if path.is_file() and _is_text(path.name)]
    return sorted(found)


def _is_text(name: str) -> bool:
    """Tell whether a file's name is Unicode: on some systems it may be any bytes, which JSON cannot carry."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def count_file(directory: Path, file: str) -> FileCount:
    """Take *file* below *directory* apart. Never fails: a file that Python cannot parse is counted as unreadable."""
    try:
        source = (directory / file).read_bytes()
        with _PARSING:
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return FileCount(file, unreadable=type(error).__name__)
    found = list(_statements(tree))
    functions = [
        Function(name, file, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node, name in found
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return FileCount(
        file,
        lines=len(source.splitlines()),
        functions=len(functions),
        classes=sum(isinstance(node, ast.ClassDef) for node, _ in found),
        imports=sum(isinstance(node, ast.Import | ast.ImportFrom) for node, _ in found),
        longest=_longest(functions),
    )


def _statements(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield all statements, each with the name of what it defines or lies in.

    Expressions hold no statements, so it need not look into them. Not recursive: some trees are deep.
    """
    pending: list[tuple[ast.AST, str]] = [(tree, "")]
    while pending:
        node, around = pending.pop()
        name = around
        if isinstance(node, _DEFINITIONS):
            name = f"{around}.{node.name}" if around else node.name
        yield node, name
        for field in _BLOCKS:
            pending.extend((child, name) for child in getattr(node, field, ()))


def _longest(functions: Iterable[Function]) -> tuple[Function, ...]:
    return tuple(sorted(functions, key=lambda function: function.order)[:LONGEST])


def add_up(counts: Iterable[FileCount]) -> Totals:
    """Return the totals of *counts*; their order does not matter."""
    counts = list(counts)
    return Totals(
        files=len(counts),
        unreadable=sum(bool(count.unreadable) for count in counts),
        lines=sum(count.lines for count in counts),
        functions=sum(count.functions for count in counts),
        classes=sum(count.classes for count in counts),
        imports=sum(count.imports for count in counts),
        longest=_longest(function for count in counts for function in count.longest),
    )


def count_all(directory: Path, files: Sequence[str], *, on_file: Callable[[int], None]) -> Totals:
    """Count *files* here, one after the other: what the workers' totals are compared with.

    Args:
        directory: Where they are.
        files: Paths relative to it.
        on_file: Called before each with the number of those done.
    """
    counts = []
    with warnings.catch_warnings():
        # Parsing old code warns of its escapes; and where warnings are errors, it would fail.
        warnings.simplefilter("ignore")
        for number, file in enumerate(files):
            on_file(number)
            counts.append(count_file(directory, file))
    return add_up(counts)
