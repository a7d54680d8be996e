"""A new plugin is written whole: names that follow from one, contracts that cannot lag behind, nothing overwritten."""

import ast
import inspect
import re
import tomllib
from pathlib import Path

import attrs
import pytest

from queuekit.backend import Backend, BackendCapabilities
from queuekit.broker import Broker, Capabilities
from queuekit.cli import plugin
from queuekit.errors import QueuekitError
from queuekit.middleware import Middleware
from queuekit.serializer import Serializer
from queuekit_testing.scaffold import KINDS, PluginNames, plugin_files, write_plugin
from support import commands

MARK = re.compile(r":\w+:`~?(?:\w+\.)*(\w+)`")
"""What Sphinx would make a link of; a terminal and a comment show it as it stands."""
CONTRACTS = {"broker": Broker, "backend": Backend, "serializer": Serializer, "middleware": Middleware}
FILES = {
    ".github/workflows/test.yml",
    ".gitignore",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "src/queuekit_nats_jet/__init__.py",
    "src/queuekit_nats_jet/plugin.py",
    "src/queuekit_nats_jet/py.typed",
    "tests/conftest.py",
    "tests/test_conformance.py",
    "tox.ini",
}


def test_command_offers_each_kind() -> None:
    """The command line, which must not need the distribution for its help, knows what that can write."""
    assert plugin.KINDS == KINDS


@pytest.mark.parametrize("text", ["nats-jet", "queuekit-nats-jet", "queuekit_nats_jet", "Nats_Jet"])
def test_names_follow_from_one(text: str) -> None:
    """Whatever way a name is written in, distribution, package and classes are called after it as usual."""
    names = PluginNames.of(text)

    assert (names.name, names.dist, names.package, names.stem) == (
        "nats-jet",
        "queuekit-nats-jet",
        "queuekit_nats_jet",
        "NatsJet",
    )


@pytest.mark.parametrize("text", ["", "9nats", "na ts", "nats-", "../nats", "memory", "queuekit-sqlite"])
def test_refuses_names_that_cannot_be(text: str) -> None:
    """A name that no distribution can have, or that is core's own, is refused with what to write instead."""
    with pytest.raises(QueuekitError) as caught:
        PluginNames.of(text)

    assert caught.value.fix


@pytest.mark.parametrize("kind", KINDS)
def test_writes_a_whole_distribution(kind: str) -> None:
    """Nothing that a distribution needs is missing, and no placeholder is left."""
    files = plugin_files(PluginNames.of("nats-jet"), kind)

    assert set(files) == FILES | {f"src/queuekit_nats_jet/{kind}.py"}
    assert not [path for path, text in files.items() if "%%" in text + path or "PACKAGE" in text + path]


@pytest.mark.parametrize("kind", KINDS)
def test_names_its_entry_point_and_a_range_of_core(kind: str) -> None:
    """The distribution depends on this core up to the next that may break it, and names its thin module."""
    project = tomllib.loads(plugin_files(PluginNames.of("nats"), kind)["pyproject.toml"])["project"]

    assert project["entry-points"] == {"queuekit": {"nats": "queuekit_nats.plugin"}}
    assert [line for line in project["dependencies"] if line.startswith("queuekit>=") and ",<" in line]


@pytest.mark.parametrize("kind", KINDS)
def test_skeleton_has_each_method_with_its_contract(kind: str) -> None:
    """What must be filled in is there with the very docstring of the contract."""
    source = plugin_files(PluginNames.of("nats"), kind)[f"src/queuekit_nats/{kind}.py"]
    tree = ast.parse(source)
    contract = CONTRACTS[kind]
    written = {node.name: ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    promised = {name: inspect.getdoc(getattr(contract, name)) for name in methods_of(contract)}
    assert {name: written.get(name) for name in promised} == promised


FIRST = {"before_send", "before_run", "after_run"}
"""Of a middleware; its skeleton names the others."""


def methods_of(contract: type) -> set[str]:
    """Return what a skeleton must have of *contract*."""
    abstract: frozenset[str] = getattr(contract, "__abstractmethods__", frozenset())
    public = {name for name, value in vars(contract).items() if inspect.isfunction(value) and name[0] != "_"}
    return {*abstract} or public & FIRST or public


def test_skeleton_lists_each_capability() -> None:
    """An author sees all that could be declared."""
    source = plugin_files(PluginNames.of("nats"), "broker")["src/queuekit_nats/plugin.py"]

    assert not [field.name for field in attrs.fields(Capabilities) if f"    {field.name}=" not in source]


@pytest.mark.parametrize("kind", ["broker", "backend"])
def test_skeleton_says_what_each_capability_means(kind: str) -> None:
    """Above each there is a comment, so that an author decides without another page."""
    lines = plugin_files(PluginNames.of("nats"), kind)["src/queuekit_nats/plugin.py"].splitlines()

    declared = [number for number, line in enumerate(lines) if line.endswith(("=True,", "=False,"))]

    assert len(declared) >= 4
    assert not MARK.search("\n".join(lines))
    assert not [lines[number] for number in declared if not lines[number - 1].startswith("    # ")]


@pytest.mark.parametrize(("kind", "server"), [("broker", True), ("backend", True), ("serializer", False)])
def test_workflow_starts_a_server_where_the_tests_need_one(kind: str, *, server: bool) -> None:
    """For an engine; a serializer has none."""
    workflow = plugin_files(PluginNames.of("nats"), kind)[".github/workflows/test.yml"]

    assert ("    services:\n      nats:\n        image: nats:latest\n" in workflow) is server


@pytest.mark.parametrize("kind", KINDS)
def test_contract_can_be_read_in_a_terminal(kind: str, tmp_path: Path) -> None:
    """``queuekit plugin contract`` prints each public method with its docstring, and each capability."""
    done = commands.queuekit("plugin", "contract", kind, folder=tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert not MARK.search(done.stdout)
    for name, value in vars(CONTRACTS[kind]).items():
        if inspect.isfunction(value) and not name.startswith("_"):
            assert re.search(rf"^    (async )?def {name}\(", done.stdout, re.MULTILINE), name
            assert MARK.sub(r"``\1``", (inspect.getdoc(value) or "").splitlines()[0]) in done.stdout
    declared = {"broker": Capabilities, "backend": BackendCapabilities}.get(kind)
    for field in attrs.fields(declared) if declared is not None else ():
        assert f"    {field.name}: bool" in done.stdout


def test_overwrites_nothing(tmp_path: Path) -> None:
    """A folder with anything in it is left as it is; an empty one is filled."""
    names, folder = PluginNames.of("nats"), tmp_path / "here"
    folder.mkdir()

    written = write_plugin(names, "broker", folder)

    assert {str(path.relative_to(folder)) for path in written} >= {"pyproject.toml", "tox.ini"}
    with pytest.raises(QueuekitError, match="is not an empty folder"):
        write_plugin(names, "broker", folder)


def test_says_where_it_cannot_write(tmp_path: Path) -> None:
    """A file where a folder is needed is an error of one line."""
    (tmp_path / "file").write_text("")

    with pytest.raises(QueuekitError, match="cannot write to"):
        write_plugin(PluginNames.of("nats"), "broker", tmp_path / "file" / "below")


def test_command_says_what_comes_next(tmp_path: Path) -> None:
    """``queuekit plugin new`` lists what it has written, and the commands to go on with."""
    done = commands.queuekit("plugin", "new", "nats", "--kind", "backend", folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "queuekit-nats/src/queuekit_nats/backend.py" in done.stdout.splitlines()
    assert "cd queuekit-nats && pip install" in done.stderr
    assert (tmp_path / "queuekit-nats" / "pyproject.toml").is_file()
