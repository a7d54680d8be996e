"""Sources of settings: files, the environment, arguments; each value keeps its origin."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs

from queuekit.errors import ConfigError
from queuekit.plugins.options import Problem, unknown
from queuekit.urls import is_secret
from queuekit.values import frozen

__all__ = ["ENVIRONMENT", "Setting", "from_environ", "from_file", "from_mapping"]

PREFIX = "QUEUEKIT_"
ENVIRONMENT = "the environment"
"""Source name of all variables."""
FOUND = ("queuekit.toml", "queuekit.yaml", "pyproject.toml")
"""Files to search for, in this order; the first with settings is used."""
SPECIAL = frozenset(
    f"{PREFIX}{name}" for name in ("CONFIG", "DEBUG", "DISABLE_PLUGINS", "PLUGINS", "REQUIRE_ENGINES", "STRICT_PLUGINS")
)
"""Variables that are not settings."""
# The second: for a service named "queuekit", Kubernetes sets variables with these names in every pod.
_FOREIGN = re.compile(rf"{PREFIX}(?:TEST_.*|SERVICE_(?:HOST|PORT).*|PORT(?:_\d+_(?:TCP|UDP).*)?)")


@frozen(kw_only=True)
class Setting:
    """One value as written."""

    path: tuple[str, ...]
    """``("broker",)``, ``("worker", "drain")``, ``("redis", "max_connections")``."""
    value: Any = attrs.field(repr=False)
    origin: str
    """Origin as shown by ``config show --origin``: file, variable, ``"command line"``, ``"Queuekit(...)"``."""
    source: str
    """Name of the place in error reports: the file, or ``the environment``."""
    key: str
    """The key as written there."""
    folder: Path | None = None
    """Folder of its file, the base of relative paths; ``None`` for the current folder."""


def from_mapping(mapping: Mapping[str, Any], *, origin: str, folder: Path | None = None) -> list[Setting]:
    """Return the settings of nested tables or dotted keys; ``None`` means not given."""
    return [
        Setting(path=path, value=value, origin=origin, source=origin, key=".".join(path), folder=folder)
        for path, value in _leaves(mapping)
        if value is not None
    ]


def _leaves(mapping: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each value with its path, at most two levels deep; deeper tables are values."""
    for key, value in mapping.items():
        head, _, tail = str(key).partition(".")
        if tail:
            yield (head, tail), value
        elif isinstance(value, Mapping):
            yield from (((head, str(name)), item) for name, item in value.items())
        else:
            yield (head,), value


def from_file(path: str | None, *, directory: Path) -> list[Setting]:
    """Return the settings of the file at *path*, or else of the config file in *directory*, if any.

    Raises:
        ConfigError: The file at *path* is missing, or a file cannot be read or parsed.
    """
    if path is not None:
        table = _read(directory / path, shown=path)
        if table is None:
            raise ConfigError(f"{path} has no table [tool.queuekit]")
        return _from_table(table, path, (directory / path).parent)
    for name in FOUND:
        if (directory / name).is_file():
            table = _read(directory / name, shown=name)
            if table is not None:
                return _from_table(table, name, directory)
    return []


def _from_table(table: Any, name: str, folder: Path) -> list[Setting]:
    if not isinstance(table, Mapping):
        raise ConfigError(
            f"{name} does not contain a table of settings", fix='Write lines such as  broker = "sqlite:///queue.db"'
        )
    return from_mapping(table, origin=name, folder=folder)


def _read(path: Path, *, shown: str) -> Any:
    """Return the parsed content of a file; ``None`` for a pyproject.toml without ``[tool.queuekit]``."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {shown}: {error.strerror}", fix="Name a file that exists, or none") from error
    if path.suffix in {".yaml", ".yml"}:
        return _yaml(data, shown)
    return deepcopy(_project(data, shown)) if path.name == "pyproject.toml" else _toml(data, shown)


@lru_cache(maxsize=4)
def _project(data: bytes, shown: str) -> Any:
    """Return what a project's file says about queuekit; it may be long, and every app of a process reads it."""
    tool = _toml(data, shown).get("tool")
    return tool.get("queuekit") if isinstance(tool, dict) else None


def _toml(data: bytes, shown: str) -> dict[str, Any]:
    import tomllib  # needed only if there is a config file

    try:
        return tomllib.loads(data.decode())
    except ValueError as error:
        raise ConfigError(f"{shown} is not TOML", where=str(error)) from error


def _yaml(data: bytes, shown: str) -> Any:
    try:
        yaml = import_module("yaml")
    except ImportError as error:
        fix = "Install it:  pip install 'queuekit[yaml]'"
        raise ConfigError(f"{shown} needs PyYAML, which is not installed", fix=fix) from error
    try:
        table = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError) as error:
        # The error's text quotes the line, which may hold a password: it is neither shown nor kept as the cause.
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        where = f"{getattr(error, 'problem', None) or 'it cannot be read'}{place}"
        raise ConfigError(f"{shown} is not YAML", where=where) from None
    return {} if table is None else table


def from_environ(
    environ: Mapping[str, str], *, known: Iterable[str], tables: Mapping[str, Iterable[str]]
) -> tuple[list[Setting], list[Problem]]:
    """Return the settings in variables ``QUEUEKIT_*``, and the problems of invalid ones.

    ``QUEUEKIT_WORKER__DRAIN`` sets ``worker.drain``. ``QUEUEKIT_BROKER_FILE`` names a file with the broker's URL, such
    as a secret mounted into a container. In a plugin's table this works only for names that look secret, since
    ``ca_file`` is itself an option.

    Args:
        environ: All variables.
        known: Names of the settings that are not in a table.
        tables: Names of the settings in each of core's tables.
    """
    names = {f"{PREFIX}{name.upper()}" for name in known}
    names |= {f"{PREFIX}{table}__{name}".upper() for table, keys in tables.items() for name in keys}
    settings: list[Setting] = []
    problems: list[Problem] = []
    for variable in sorted(filter(_is_ours, environ)):
        found = _read_variable(variable, environ, names, tables)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            settings.append(found)
    return _merge_deep(settings), problems


def _read_variable(
    variable: str, environ: Mapping[str, str], names: set[str], tables: Mapping[str, Iterable[str]]
) -> Setting | Problem:
    """Return the setting that *variable* holds, or that its file holds; or the problem with it."""
    base = _of_file(variable, names, tables)
    if base != variable and base in environ:
        return Problem(variable, f"{base} is set too; set only one of them", ENVIRONMENT)
    if base not in names and not _in_section(base, tables):
        return Problem(variable, _unknown(variable, names, tables), ENVIRONMENT)
    try:
        value = environ[variable] if base == variable else _content(environ[variable])
    except ValueError as error:
        return Problem(variable, str(error), ENVIRONMENT)
    return _from_variable(base, value, variable)


def _is_ours(variable: str) -> bool:
    """Return whether *variable* is meant to be a setting."""
    return variable.startswith(PREFIX) and variable not in SPECIAL and not _FOREIGN.fullmatch(variable)


def _content(path: str) -> str:
    """Return the text of the file at *path*, without surrounding white space.

    Raises:
        ValueError: The file cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ValueError(f"cannot read {json.dumps(path)}: {reason}") from error


def _unknown(variable: str, names: Iterable[str], tables: Mapping[str, Iterable[str]]) -> str:
    """Return the text of the problem with a variable that is not a setting."""
    (table, *_) = _path(variable)
    if variable.count("__") == 0 and table in tables:
        return f"{table} is a table: set e.g. {variable}__{next(iter(tables[table])).upper()}"
    return unknown(variable, names, what="unknown variable")


def _of_file(variable: str, names: Iterable[str], tables: Mapping[str, Iterable[str]]) -> str:
    """Return the variable that *variable* sets: itself, or its name without ``_FILE``."""
    base = variable.removesuffix("_FILE")
    return base if base in names or (_in_section(base, tables) and is_secret(base)) else variable


def _in_section(variable: str, tables: Mapping[str, Iterable[str]]) -> bool:
    """Return whether *variable* sets an option of a plugin's table, or an entry of a setting that is a table."""
    path = _path(variable)
    if len(path) < 2 or not all(path):  # noqa: PLR2004 - a table and a key
        return False
    return path[0] not in tables or (len(path) > 2 and path[1] in tables[path[0]])  # noqa: PLR2004 - and a key in that value


def _path(variable: str) -> tuple[str, ...]:
    return tuple(variable.removeprefix(PREFIX).lower().split("__"))


def _from_variable(variable: str, value: str, origin: str) -> Setting:
    return Setting(path=_path(variable), value=value, origin=origin, source=ENVIRONMENT, key=origin)


def _merge_deep(settings: list[Setting]) -> list[Setting]:
    """Return *settings*, merging those three levels deep: ``QUEUEKIT_PLUGINS__PREFER__REDIS=acme`` sets a table."""
    merged: dict[tuple[str, ...], Setting] = {}
    for setting in settings:
        path, rest = setting.path[:2], setting.path[2:]
        if rest:
            before = merged[path].value if path in merged and isinstance(merged[path].value, dict) else {}
            value = {**before, "__".join(rest): setting.value}
            setting = attrs.evolve(setting, path=path, value=value)  # noqa: PLW2901 - the same setting, merged
        merged[path] = setting
    return list(merged.values())
