"""Who may import whom: core is a list of rooms, each of which imports only from those before it.

Imports inside functions and under ``TYPE_CHECKING`` count as well, so a cycle cannot hide in one.
"""

import ast
import graphlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

CORE = Path(__file__).parents[2] / "core" / "queuekit"

ROOMS = (
    "values",
    "forks",
    "interrupts",
    "timelimit",
    "errors",
    "pool",
    "tls",
    "ids",
    "layouts",
    "logs",
    "secret",
    "states",
    "clock",
    "events",
    "urls",
    "durations",
    "envelope",
    "unique",
    "fair",
    "retry",
    "control",
    "failure",
    "backend",
    "levels",
    "broker",
    "rounds",
    "encoding",
    "serializer",
    "wire",
    "specs",
    "hookspecs",
    "lifecycle",
    "engines",
    "plugins",
    "config",
    "result",
    "signature",
    "context",
    "trace",
    "resources",
    "middleware",
    "workflows",
    "limits",
    "limiting",
    "tasks",
    "client",
    "schedules",
    "execution",
    "operations",
    "app",
    "worker",
    "demo",
    "testing",
    "cli",
)
"""Rooms of core, lowest first: a module at the top of the package, or a package. Each imports from those before it."""

REQUIRED = frozenset({"attrs", "click", "pluggy"})
"""What ``pip install queuekit`` brings along."""
EXTRAS = frozenset({"cronsim", "msgspec", "yaml"})
"""What an extra of ours brings along; imported only where it is used."""
CHECKERS = frozenset({"typing_extensions"})
"""What type checkers bring along; imported for them alone."""
TESTING = frozenset({"pytest", "queuekit_testing"})
"""What ``queuekit.testing`` may import beyond that. It alone names a distribution of ours, whose names it takes over:
tests and plugins import them from where they were when core held the suites itself."""

CLIENTS = re.compile(
    r"\b(aiobotocore|boto3|botocore|bson|motor|pika|pymongo|redis\.(asyncio|client|exceptions)|valkey)\b"
)
PLUGINS = frozenset(
    {"redis", "rediss", "sqs", "mongo", "mongodb", "dynamodb", "amqp", "amqps", "memcache", "memcached"}
)

NUMBERED = re.compile(r"\?\d")
NAMED = re.compile(r"[\s(,=<>|+-][:@$][A-Za-z_]")
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH)\b")

SOURCES = sorted(CORE.rglob("*.py"))
MODULES = [path for path in SOURCES if path != CORE / "__init__.py"]


def name_of(path: Path) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(CORE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in SOURCES}


PACKAGES = tuple(room for room in ROOMS if (CORE / room).is_dir())
"""The rooms that are packages: core's machinery."""


def room_of(module: str) -> str:
    """Return the room of a module: the first part after ``queuekit``, empty for ``queuekit`` itself."""
    return module.partition(".")[2].partition(".")[0]


def targets(node: ast.AST, *, inside: str) -> Iterator[str]:
    """Yield the dotted names that one node imports; *inside* is the package that relative imports start from."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            parents = inside.split(".")[: len(inside.split(".")) - level + 1] if level else []
            base = ".".join([*parents, *([module] if module else [])])
            yield from (f"{base}.{alias.name}" for alias in names)
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(target)), *_],
        ):
            yield target
        case _:
            pass


def imports_of(source: str, *, inside: str) -> Iterator[str]:
    """Yield every dotted name that *source* imports anywhere: ``queuekit.errors.ConfigError``, ``attrs``."""
    for node in ast.walk(ast.parse(source)):
        yield from targets(node, inside=inside)


@cache
def tree_of(path: Path) -> ast.Module:
    """Return a file as Python reads it."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Return the nodes of a file, which most rules walk."""
    return tuple(ast.walk(tree_of(path)))


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Return every dotted name that a file imports."""
    inside = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    return tuple(target for node in nodes_of(path) for target in targets(node, inside=inside))


def own_module(target: str) -> str | None:
    """Return the module of ours that *target* names or lies in, ``None`` if it is not ours."""
    if target.partition(".")[0] != "queuekit":
        return None
    while target not in NAMES and "." in target:
        target = target.rpartition(".")[0]
    return target


@pytest.mark.parametrize(
    ("source", "found"),
    [
        pytest.param("import attrs, os.path", {"attrs", "os.path"}, id="plain"),
        pytest.param("from queuekit.broker import Ack", {"queuekit.broker.Ack"}, id="from"),
        pytest.param("from queuekit import broker", {"queuekit.broker"}, id="module"),
        pytest.param("from .layout import TABLE", {"queuekit.engines.sqlite.layout.TABLE"}, id="relative"),
        pytest.param("from ..broker import Ack", {"queuekit.engines.broker.Ack"}, id="parent"),
        pytest.param("def f():\n    import queuekit.cli", {"queuekit.cli"}, id="function"),
        pytest.param("if TYPE_CHECKING:\n    import queuekit.app", {"queuekit.app"}, id="typing"),
        pytest.param("importlib.import_module('queuekit.app')", {"queuekit.app"}, id="by-name"),
    ],
)
def test_sees_imports_of_every_form(source: str, found: set[str]) -> None:
    """No way of writing an import escapes this test."""
    assert set(imports_of(source, inside="queuekit.engines.sqlite")) == found


def test_every_room_has_its_place() -> None:
    """The list names each room of core once, and none that is gone."""
    found = {room_of(name) for name in NAMES} - {"", "__main__"}

    assert found - set(ROOMS) == set(), "not in the list of rooms"
    assert set(ROOMS) - found == set(), "in the list of rooms, but gone"
    assert len(ROOMS) == len(set(ROOMS))


def rooms_imported(room: str) -> set[str]:
    """Return the other rooms that the modules of *room* import from."""
    files = [path for path in MODULES if room_of(name_of(path)) == room]
    return {room_of(own) for path in files for target in imports(path) if (own := own_module(target))} - {"", room}


@pytest.mark.parametrize("room", PACKAGES)
def test_room_says_what_it_imports_from(room: str) -> None:
    """The last sentence of its docstring lists the packages, lowest first; all else is "the top of the package".

    Where this fails, replace the sentence by the one that is expected.
    """
    found = rooms_imported(room)
    top = ["the top of the package"] if found - set(PACKAGES) else []
    expected = ", ".join([*top, *(package for package in PACKAGES if package in found)]) or "nothing of queuekit"

    text = " ".join((ast.get_docstring(tree_of(CORE / room / "__init__.py")) or "").split())

    assert text.endswith(f" Imports from: {expected}.")
    assert text.count(" Import ") == 1, "it says what may be imported from it"


def test_internals_describe_every_room() -> None:
    """The table in docs/internals.md has a row for each package, in the order of the list."""
    page = (CORE.parents[1] / "docs" / "internals.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| `(\w+)` \|", page.partition("## The rooms")[2], re.MULTILINE) == list(PACKAGES)


def broken(rule: Callable[[Path], Iterable[object]], paths: Iterable[Path] = SOURCES) -> dict[str, list[str]]:
    """Return the modules that break *rule*, each with what the rule has found there."""
    found = {name_of(path): sorted(map(str, rule(path))) for path in paths}
    return {name: there for name, there in found.items() if there}


def test_imports_only_from_below() -> None:
    """A module imports from rooms before its own, or from inside its own."""

    def from_above(path: Path) -> set[str]:
        room = room_of(name_of(path))
        allowed = {*ROOMS[: ROOMS.index(room)], room} if room in ROOMS else set(ROOMS)
        return {target for target in imports(path) if (own := own_module(target)) and room_of(own) not in allowed}

    assert broken(from_above, MODULES) == {}


def test_has_no_import_cycle() -> None:
    """No chain of imports leads back to its start, not even between the modules of one package."""
    graph = {name_of(path): {own for target in imports(path) if (own := own_module(target))} for path in MODULES}

    graphlib.TopologicalSorter(graph).prepare()


def test_imports_nothing_else_but_its_dependencies() -> None:
    """Beyond the standard library core imports pluggy, attrs and click; extras; for testing, pytest and the kit."""
    allowed = sys.stdlib_module_names | REQUIRED | EXTRAS | CHECKERS | {"queuekit"}

    def others(path: Path) -> set[str]:
        testing = TESTING if room_of(name_of(path)) == "testing" else frozenset[str]()
        return {target.partition(".")[0] for target in imports(path)} - allowed - testing

    assert broken(others) == {}


def test_imports_extras_only_when_needed() -> None:
    """A module that uses an extra imports it inside the function that needs it."""

    def at_its_top(path: Path) -> set[str]:
        return {target.partition(".")[0] for node in tree_of(path).body for target in targets(node, inside="")} & EXTRAS

    assert broken(at_its_top) == {}


def _is_for_checkers(test: ast.expr) -> bool:
    """Return whether a condition is what holds for type checkers alone."""
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def test_imports_what_is_for_type_checkers_for_them_alone() -> None:
    """What only type checkers bring along stands under ``if TYPE_CHECKING``, so that nothing misses it at run time."""

    def in_the_open(path: Path) -> set[str]:
        nodes = nodes_of(path)
        guarded = [node.body for node in nodes if isinstance(node, ast.If) and _is_for_checkers(node.test)]
        hidden = {inner for body in guarded for statement in body for inner in ast.walk(statement)}
        shown = [node for node in nodes if node not in hidden]
        return {target.partition(".")[0] for node in shown for target in targets(node, inside="")} & CHECKERS

    assert broken(in_the_open) == {}


def test_names_no_client_library() -> None:
    """The source of core never mentions a library that only a plugin uses, but in the table of foreign words."""
    paths = [path for path in SOURCES if path.name != "foreign.py"]

    assert broken(lambda path: CLIENTS.findall(path.read_text(encoding="utf-8")), paths) == {}


def test_never_asks_which_plugin_it_is() -> None:
    """Core asks capabilities and limits: no comparison and no ``match`` mentions the name of a plugin."""

    def asked(path: Path) -> set[Any]:
        questions = [node for node in nodes_of(path) if isinstance(node, ast.Compare | ast.MatchValue)]
        nodes = [node for question in questions for node in ast.walk(question)]
        return {node.value for node in nodes if isinstance(node, ast.Constant)} & PLUGINS

    assert broken(asked) == {}


def parts_of_statements(path: Path) -> list[str]:
    """Return the texts of a file, those of its f-strings in parts."""
    nodes = [node for node in nodes_of(path) if isinstance(node, ast.Constant)]
    return [node.value for node in nodes if isinstance(node.value, str)]


def test_numbers_no_parameter_of_a_statement() -> None:
    """A statement has ``?`` and gets a sequence, or ``:name`` and a mapping: Python 3.12 warns of ``?1``."""
    assert broken(lambda path: [text for text in parts_of_statements(path) if NUMBERED.search(text)]) == {}


def test_names_a_parameter_only_where_a_mapping_is_given() -> None:
    """Only ``settime`` executes statements by itself; the database that all others use takes sequences."""
    paths = [path for path in CORE.glob("engines/sqlite/*.py") if path.name != "settime.py"]

    def named(path: Path) -> list[str]:
        return [text for text in parts_of_statements(path) if STATEMENT.match(text) and NAMED.search(text)]

    assert broken(named, paths) == {}
