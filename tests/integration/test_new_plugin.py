"""A plugin as ``queuekit plugin new`` writes it installs from its wheel, is listed, and its tests say what is left.

What writes it, and the suites of its tests, are a distribution of their own; core says so where it is missing. Plugins
that an earlier version has written go on as they are.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuekit_testing.scaffold import KINDS, PluginNames, write_plugin
from support.venvs import (
    KIT,
    ROOT,
    Venv,
    author_environment,
    bare_environment,
    build_wheel,
    once_per_run,
    wheel_of,
)

FIX = "pip install 'queuekit[testing]'"
WITHOUT_HYPOTHESIS = """
from queuekit.testing import BrokerConformance, VirtualClock, eventually


class TestMemory(BrokerConformance):
    url = "memory://here"


def test_applies():
    clock = VirtualClock()
    clock.advance(2)
    assert eventually(clock.monotonic) == 2
"""
BEFORE = ROOT / "tests" / "thirdparty" / "before-rooms"
"""Plugins written by the version before core's modules moved into packages."""
QUICK = {"broker": "TestPlugin or batch or never_sent_to"}
"""What the everyday run takes of the suites of a kind; the whole is for `tox -e full`."""
TOOLS = shutil.which("ruff") and shutil.which("mypy")
METHODS = {
    "broker": ("send", "receive"),
    "backend": ("put", "wait", "join"),
    "serializer": ("dumps", "loads"),
    "middleware": ("before_send",),
}
"""What each skeleton leaves to write, as far as tests get without it."""


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venv]:
    """Return an environment with the wheel of core and the tools of an author."""
    folder = tmp_path_factory.mktemp("author")
    yield author_environment(folder / "venv")
    shutil.rmtree(folder)


@pytest.fixture
def bare(tmp_path: Path) -> Venv:
    """Return an environment with pytest and the wheel of core, as applications have it."""
    return bare_environment(tmp_path / "venv")


def test_command_says_what_to_install(tmp_path: Path, bare: Venv) -> None:
    """Without queuekit-testing ``queuekit plugin new`` ends as for any missing plugin, with what to install."""
    done = bare.queuekit("plugin", "new", "nats", folder=tmp_path)

    assert (done.returncode, done.stdout) == (5, "")
    assert [line.strip() for line in done.stderr.splitlines()] == [
        "Error QK504: queuekit-testing is not installed.",
        FIX,
    ]
    assert not (tmp_path / "queuekit-nats").exists()


def test_pytest_says_what_to_install(tmp_path: Path, bare: Venv) -> None:
    """Without it, a run that asks for queuekit's plugin of pytest, by option or in a conftest.py, says the same."""
    asked = bare.run("-m", "pytest", "-p", "queuekit.testing", folder=tmp_path)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["queuekit.testing"]\n')
    named = bare.run("-m", "pytest", folder=tmp_path)

    for done in (asked, named):
        assert done.returncode != 0
        assert FIX in done.stdout + done.stderr


@pytest.mark.parametrize(
    "kit",
    [
        pytest.param(False, id="without the kit"),
        pytest.param(True, id="without pytest-timeout", marks=pytest.mark.full),
    ],
)
def test_new_plugin_says_what_its_tests_need(tmp_path: Path, bare: Venv, *, kit: bool) -> None:
    """Where something is missing, the run ends with the command that installs it, and not with a traceback."""
    if kit:
        bare.install(wheel_of(KIT))
    write_plugin(PluginNames.of("nats"), "broker", tmp_path / "nats")

    done = bare.run("-m", "pytest", folder=tmp_path / "nats")

    assert done.returncode == 4
    assert "the tests are not installed:  pip install --editable '.[testing]'" in done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr


def test_kit_needs_no_hypothesis(tmp_path: Path, bare: Venv) -> None:
    """Without Hypothesis the kit serves the tests of an application, and a suite skips what needs it, and says so."""
    bare.install(wheel_of(KIT))
    (tmp_path / "test_it.py").write_text(WITHOUT_HYPOTHESIS)

    done = bare.run("-m", "pytest", "-rs", "-p", "queuekit.testing", "-k", "test_applies or model", folder=tmp_path)

    assert re.search(r"needs Hypothesis:  pip install 'queuekit-testing\[kit\]'", done.stdout), done.stdout
    assert re.search(r"1 passed, 1 skipped", done.stdout), done.stdout


@pytest.fixture(
    scope="module",
    params=[kind if kind == "broker" else pytest.param(kind, marks=pytest.mark.full) for kind in KINDS],
)
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, venv: Venv) -> tuple[str, Path]:
    """Return kind and folder of a new plugin, which is installed from its wheel."""
    kind: str = request.param
    folder = tmp_path_factory.mktemp(kind)
    write_plugin(PluginNames.of(f"new-{kind}"), kind, folder)
    venv.install(build_wheel(folder, folder / "dist"))
    return kind, folder


def test_is_listed(project: tuple[str, Path], venv: Venv) -> None:
    """Installed, it is found, loaded and listed."""
    kind, folder = project

    done = venv.queuekit("plugins", "--json", folder=folder)

    found = {plugin["name"]: plugin for plugin in json.loads(done.stdout)["plugins"]}[f"new-{kind}"]
    assert (found["status"], found["distribution"]) == ("ok", f"queuekit-new-{kind}")
    assert found["schemes"] == ([f"new-{kind}"] if kind in {"broker", "backend"} else [])


@pytest.mark.parametrize(
    "whole", [pytest.param(False, id="some"), pytest.param(True, id="whole", marks=pytest.mark.full)]
)
def test_fails_until_it_is_filled_in(project: tuple[str, Path], venv: Venv, *, whole: bool) -> None:
    """Its own tests run; what fails does so for a method that is left, and says which, and in which file."""
    kind, folder = project
    tests = "" if whole else QUICK.get(kind, "")

    done = venv.run("-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", "-k", tests, folder=folder)

    assert done.returncode == 1, done.stdout + done.stderr
    for method in METHODS[kind]:
        where = rf"\.{method} is not implemented yet: write it in src/queuekit_new_{kind}/{kind}\.py"
        assert re.search(where, done.stdout), done.stdout[-3000:]
    assert "errors" not in done.stdout.splitlines()[-1]
    assert re.search(r"queuekit-conformance: \d+ passed", done.stdout)


def make_environment_of_before(folder: Path) -> None:
    """Make an environment with the plugins of before, installed from their wheels."""
    sources = folder.with_name("before-sources")
    wheels = []
    for path in sorted(BEFORE.glob("queuekit-*")):
        shutil.copytree(path, sources / path.name)
        wheels.append(build_wheel(sources / path.name, sources / path.name / "dist"))
    author_environment(folder).install(*wheels)


@pytest.fixture
def author() -> Venv:
    """Return the environment with the plugins of before, which tests leave as it is."""
    return Venv.at(once_per_run("before", make_environment_of_before))


@pytest.mark.parametrize(
    ("name", "tests"),
    [
        pytest.param("files", "TestPlugin or batch", id="broker", marks=pytest.mark.full),
        pytest.param("files", "TestBroker", id="broker-whole", marks=pytest.mark.full),
        pytest.param(
            "old-backend", "TestPlugin and not nobody_answers", id="backend", marks=pytest.mark.full
        ),  # its verbs are left to write
        pytest.param("old-serializer", "TestPlugin", id="serializer", marks=pytest.mark.full),
        pytest.param("old-middleware", "TestPlugin", id="middleware", marks=pytest.mark.full),
    ],
)
def test_one_of_before_passes_as_it_is(name: str, tests: str, tmp_path: Path, author: Venv) -> None:
    """What an earlier version has written imports from core as it did, and passes the suites of the present one."""
    shutil.copytree(BEFORE / f"queuekit-{name}" / "tests", tmp_path / "tests")

    done = author.run("-m", "pytest", "-q", "--import-mode=importlib", "-k", tests, folder=tmp_path)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert re.search(r"queuekit-conformance: \d+ passed", done.stdout)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where mypy keeps what it knows of core, for all kinds."""
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.skipif(not TOOLS, reason="needs ruff and mypy: run by `tox -e types`")
@pytest.mark.parametrize("kind", KINDS)
def test_is_clean(tmp_path: Path, cache: Path, kind: str) -> None:
    """What is written is clean and formatted by its own rules for ruff, and its types are right for mypy --strict."""
    write_plugin(PluginNames.of(f"new-{kind}"), kind, tmp_path)
    environ = {**os.environ, "MYPYPATH": f"{ROOT / 'core'}:{KIT / 'src'}", "RUFF_NO_CACHE": "true"}

    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", "--cache-dir", str(cache)]):
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

        assert done.returncode == 0, done.stdout + done.stderr
