"""The documentation names all there is: an error, a hook or a module that it leaves out fails here."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import attrs
import pytest

import queuekit
from queuekit import errors, events
from queuekit_testing.scaffold import KINDS, PluginNames, plugin_files
from queuekit_testing.scaffold.contracts import field_meanings

DOCS = Path(__file__).parents[2] / "docs"
STRANGER = Path(__file__).parents[1] / "thirdparty" / "queuekit-postgres"
REFERENCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((DOCS / "reference").glob("*.md")))
MODULES = sorted(module.name for module in pkgutil.iter_modules(queuekit.__path__))
ROW = re.compile(r"^\| `(queuekit\.[a-z]+)` \|.*\| ([a-z, ]+) \|$", re.MULTILINE)
STABLE = dict(ROW.findall((DOCS / "reference" / "modules.md").read_text(encoding="utf-8")))
"""Modules whose paths stay, and who uses each."""
EVENTS = (DOCS / "reference" / "events.md").read_text(encoding="utf-8")
DOCUMENTED = sorted({*STABLE, *re.findall(r"auto(?:module|class):: (queuekit[\w.]+)", REFERENCE)})
"""Modules, and a few classes, that the reference documents; those of plugins and of the test kit too."""
OPTIONS = sorted(set(re.findall(r"options-table:: (\S+)", REFERENCE)))
"""Classes of options, as ``module:name``."""
OWN = {"queuekit.demo", "queuekit.ids"}
"""Modules beside them that are core's own."""
WITH_CORE = {"queuekit-dashboard", "queuekit-dev", "queuekit-django", "queuekit-testing"}
"""Distributions that are released with core, since they reach further into it."""
ENGINES = [path for path in (DOCS.parent / "plugins").glob("*/src/**/*.py") if WITH_CORE.isdisjoint(path.parts)]


def all_errors(kind: type[errors.QueuekitError]) -> list[type[errors.QueuekitError]]:
    """Return *kind* and all its subclasses in core."""
    below = [error for sub in kind.__subclasses__() for error in all_errors(sub)]
    return [error for error in [kind, *below] if error.__module__.startswith("queuekit.")]


@pytest.fixture(scope="module")
def tree() -> list[type[errors.QueuekitError]]:
    """Return every error class of core, in whatever module it is."""
    for module in MODULES:
        importlib.import_module(f"queuekit.{module}")
    return all_errors(errors.QueuekitError)


@pytest.mark.parametrize("module", STABLE)
def test_reference_has_each_module_whose_path_stays(module: str) -> None:
    """It is on a page of the reference, with all that is in it; hooks have pages of their own."""
    assert f".. automodule:: {module}\n" in REFERENCE or module == "queuekit.lifecycle"


def test_modules_whose_paths_stay_are_all_that_is_at_the_top() -> None:
    """The top of the package has them and a few of core's own; packages are machinery."""
    top = {f"queuekit.{module.name}" for module in pkgutil.iter_modules(queuekit.__path__) if not module.ispkg}

    assert top == {*STABLE, *OWN}


@pytest.mark.parametrize("module", sorted({*STABLE} - {"queuekit.testing"}))
def test_module_whose_path_stays_is_no_forwarding_twin(module: str) -> None:
    """It defines names itself. Only ``testing`` takes over those of another distribution."""
    names = vars(importlib.import_module(module)).values()

    assert any(getattr(value, "__module__", None) == module for value in names)


def test_our_engines_need_no_more_than_others() -> None:
    """The engines of ours import from modules whose paths stay; those of WITH_CORE reach further."""
    needed = {path.name: imported_from_core(path.read_text(encoding="utf-8")) - {"queuekit"} for path in ENGINES}

    assert {name: modules - {*STABLE} for name, modules in needed.items() if not modules <= {*STABLE}} == {}


@pytest.mark.parametrize("name", queuekit.__all__)
def test_reference_has_what_apps_need(name: str) -> None:
    """A name that ``queuekit`` exports comes from a module on a page of the reference."""
    module = getattr(getattr(queuekit, name), "__module__", None)

    assert module is None or f".. automodule:: {module}\n" in REFERENCE


def imported_from_core(source: str) -> set[str]:
    """Return the modules of core that *source* imports."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    modules = {node.module for node in nodes if node.module}
    return {module for module in modules if module.partition(".")[0] == "queuekit"}


@pytest.mark.parametrize("path", sorted(STRANGER.rglob("*.py")), ids=lambda path: path.name)
def test_reference_has_what_a_stranger_needs(path: Path) -> None:
    """The plugin of a third party, kept here as a proof, imports from modules of the reference alone."""
    needed = imported_from_core(path.read_text(encoding="utf-8"))

    assert not {module for module in needed if f".. automodule:: {module}\n" not in REFERENCE}


@pytest.mark.parametrize("kind", KINDS)
def test_reference_has_what_a_new_plugin_needs(kind: str) -> None:
    """What ``queuekit plugin new`` writes imports from modules of the reference alone."""
    files = plugin_files(PluginNames.of("nats"), kind)
    needed = {module for path, text in files.items() if path.endswith(".py") for module in imported_from_core(text)}

    assert not {module for module in needed if f".. automodule:: {module}\n" not in REFERENCE} - {"queuekit"}


def data_classes(path: str) -> list[type]:
    """Return the classes with fields that users of the module at *path* meet, or the one class at *path*."""
    try:
        names = vars(importlib.import_module(path))
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        names = {name: getattr(importlib.import_module(module), name)}
    public = names.get("__all__", [name for name in names if not name.startswith("_")])
    found = [names[name] for name in public if isinstance(names.get(name), type)]
    return [kind for kind in found if kind.__module__.startswith("queuekit") and field_names(kind)]


def field_names(kind: type) -> list[str]:
    """Return the public fields of an attrs class, a dataclass or a named tuple, in order; none of other classes."""
    names = [field.name for field in getattr(kind, "__attrs_attrs__", ())]
    names += [*getattr(kind, "__dataclass_fields__", ()), *getattr(kind, "_fields", ())]
    return [name for name in names if not name.startswith("_")]


@pytest.mark.parametrize("path", DOCUMENTED)
def test_help_on_a_class_explains_each_field(path: str) -> None:
    """The docstring of a class describes all its fields, inherited ones too, in their order, and no others."""
    described = {kind: list(field_meanings(kind)) for kind in data_classes(path)}

    assert {kind: names for kind, names in described.items() if names != field_names(kind)} == {}


@pytest.mark.parametrize("place", OPTIONS)
def test_help_on_options_explains_each_field(place: str) -> None:
    """The options of an engine and the tables of the config file are read by ``help()``, too."""
    module, _, name = place.partition(":")
    kind = getattr(importlib.import_module(module), name)

    assert list(field_meanings(kind)) == field_names(kind)


@pytest.mark.parametrize("path", DOCUMENTED)
def test_help_on_a_class_shows_computed_defaults(path: str) -> None:
    """A signature shows a default that is computed as ``NOTHING``, so the docstring says what it is."""
    computed = [
        (kind.__name__, field.name, field_meanings(kind)[field.name])
        for kind in data_classes(path)
        for field in getattr(kind, "__attrs_attrs__", ())
        if hasattr(field.default, "factory") and not field.name.startswith("_")
    ]

    assert [one for one in computed if "default" not in one[-1].lower()] == []


def test_error_tree_is_complete(tree: list[type[errors.QueuekitError]]) -> None:
    """The tree drawn in ``queuekit.errors`` shows each error with its code."""
    drawn = {" ".join(line.strip(" │├└─").split()[:2]) for line in (errors.__doc__ or "").splitlines()}

    missing = [f"{error.__name__} {error.code}" for error in tree if error is not errors.QueuekitError]

    assert not {name for name in missing if name not in drawn}


def test_error_codes_are_unique(tree: list[type[errors.QueuekitError]]) -> None:
    """One code means one error."""
    codes = [error.code for error in tree]

    assert sorted(codes) == sorted(set(codes))


def test_reference_has_each_logger() -> None:
    """The names of loggers stand in the configuration of users, so none is added, moved or dropped unnoticed."""
    sources = [path.read_text(encoding="utf-8") for path in Path(queuekit.__path__[0]).rglob("*.py")]

    used = {name for source in sources for name in re.findall(r'getLogger\("(queuekit[a-z_.]*)"\)', source)}

    assert used == set(re.findall(r"^\| `(queuekit\.[a-z]+)` \|", EVENTS, re.MULTILINE))


@pytest.mark.parametrize("name", [name for name in events.__all__ if isinstance(getattr(events, name), type)])
def test_reference_has_each_event(name: str) -> None:
    """The table of events has a row for each class, with all its fields."""
    kind = getattr(events, name)
    if not issubclass(kind, events.Event) or kind is events.Event:
        return

    (row,) = re.findall(rf"^\| `{name}` \|.*\| (.*) \|$", EVENTS, re.MULTILINE)

    assert {field.name for field in attrs.fields(kind)} <= set(re.findall(r"`(\w+)`", row))
