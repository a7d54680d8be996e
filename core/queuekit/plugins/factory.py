"""Creates engines and serializers from specs: imports factories, checks options, and wraps errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from queuekit.errors import PluginError
from queuekit.hookspecs import BackendSpec, BrokerSpec, SerializerSpec
from queuekit.plugins import options as fields
from queuekit.plugins.catalogue import Choice, install_line
from queuekit.plugins.loading import PluginInfo, reason
from queuekit.plugins.options import Problem
from queuekit.urls import EngineURL

__all__ = [
    "check_serializer",
    "make_options",
    "options_class",
    "passthrough",
    "resolve",
    "section_of",
    "table_problems",
    "with_defaults",
    "wrap_error",
]


def section_of(spec: BrokerSpec | BackendSpec) -> str:
    """Return the name of the config table that holds the options of *spec*."""
    return spec.section or spec.schemes[0]


def resolve(target: Any) -> Any:
    """Import and return what a spec names as ``"package.module:Name"``; return anything else unchanged.

    Raises:
        ImportError: The module cannot be imported.
        AttributeError: The module has no such name.
        PluginError: The text does not have that form.
    """
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    if not name:
        raise PluginError(f'{target!r} is not of the form "package.module:Name"')
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def options_class(target: Any, *, label: str) -> Any:
    """Import and return the options class that a spec of the plugin *label* names; ``None`` if it names none.

    Raises:
        PluginError: It cannot be imported.
    """
    try:
        return resolve(target)
    except Exception as error:
        raise PluginError(f"the options of {label} cannot be imported: {reason(error)}") from error


def passthrough(kind: type | None) -> frozenset[str]:
    """Return the query options that *kind* passes to the client library: its ``queuekit_passthrough``, if any."""
    return frozenset(getattr(kind, "queuekit_passthrough", ()))


def _own_query(url: EngineURL, owners: Iterable[type]) -> dict[str, Any]:
    """Return the query of *url* without what the *owners* of its options pass to the client library."""
    left = {name for owner in owners for name in passthrough(owner)}
    return {key: value for key, value in url.query.items() if key not in left}


def make_options(
    kind: type | None,
    url: EngineURL,
    table: Mapping[str, Any],
    *,
    owners: Iterable[type],
    setting: str,
    label: str,
) -> Any:
    """Return the options of an engine from its config *table* and the query of *url*, which overrides the table.

    Args:
        kind: attrs class of the options; ``None`` if the engine has no options.
        url: URL with the query.
        table: The plugin's table in the config.
        owners: All classes that share the table: an option of one of them is allowed for all.
        setting: Setting that holds the URL, for errors.
        label: The plugin, for errors.

    Raises:
        ConfigError: Options are unknown or not valid; one error lists all.
    """
    raw = {**table, **_own_query(url, owners)}
    shown = {key: f"{setting} ?{key}" if key in url.query else key for key in raw}
    found = table_problems(raw, owners, label=label, reading=[kind] if kind is not None else [])
    problems = [Problem(shown[key], text, f"the options of {url.scheme}://") for key, text in found.items()]
    if problems:
        raise fields.report(problems)
    if kind is None:
        return None
    values, _ = fields.read(kind, raw)
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        text = url.hide(reason(error).partition(": ")[2])
        raise fields.report([Problem(setting, text, f"the options of {url.scheme}://")]) from error


def table_problems(
    table: Mapping[str, Any], owners: Iterable[type], *, label: str, reading: Iterable[type] | None = None
) -> dict[str, str]:
    """Return the problems of a plugin's options, by key.

    Args:
        table: The options.
        owners: All classes that share the table.
        label: The plugin, for the text.
        reading: The classes whose values to check; default: all.
    """
    known = {name for kind in owners for name in fields.settable(kind)}
    unknown = sorted(set(table) - known)
    problems = {key: fields.unknown(key, known, what=f"unknown option of {label}") for key in unknown}
    for kind in owners if reading is None else reading:
        problems |= fields.read(kind, table)[1]
    return problems


def check_serializer(made: Any, spec: SerializerSpec) -> None:
    """Check that a serializer matches its spec.

    Raises:
        PluginError: It has another content type, or is less safe.
    """
    if made.content_type != spec.name:
        raise PluginError(f"its content type is {made.content_type!r}, its spec says {spec.name!r}")
    if spec.safe and not made.safe:
        raise PluginError("it is not safe, although its spec says so")


def with_defaults(made: Any, spec: BrokerSpec | BackendSpec, base: type[Any]) -> Any:
    """Return *made* with the capabilities and limits of its spec, unless its class sets its own.

    Raises:
        PluginError: It is not an instance of *base*.
    """
    if not isinstance(made, base):
        raise PluginError(f"its factory returned {type(made).__name__}, not a {base.__name__}")
    said: set[str] = {*vars(made)}.union(*(vars(kind) for kind in type(made).__mro__ if not issubclass(base, kind)))
    for name in ("capabilities", "limits"):
        if name not in said:
            object.__setattr__(made, name, getattr(spec, name))
    return made


def wrap_error(error: Exception, info: PluginInfo, *, shown: str, choice: Choice, text: str) -> PluginError:
    """Return the error to raise when the plugin for *shown* failed; *text* is its error without secrets."""
    if isinstance(error, ImportError):
        what = f"the plugin for {shown} ({info.label}) is installed but cannot be used: {text}"
        again = f"Reinstall it:  pip install --force-reinstall {info.dist}" if info.dist else "See:  queuekit plugins"
        return PluginError(what, where=str(choice), fix=install_line(shown.removesuffix("://")) or again)
    return PluginError(f"the plugin for {shown} ({info.label}) failed: {text}", where=str(choice))
