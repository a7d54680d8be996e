"""Loads those installed plugins that the config and the environment allow."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from queuekit.errors import PluginError
from queuekit.plugins.loading import Plugin, canonical, disabled, dist_name, load_entry_point
from queuekit.values import frozen

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Rules", "discover", "left_out", "unique"]

_DISABLE = "QUEUEKIT_DISABLE_PLUGINS"
_OFF = frozenset({"", "0", "false", "no", "off"})


@frozen(kw_only=True)
class Rules:
    """Which plugins may load. Names are those of entry points or distributions."""

    only: frozenset[str] | None
    """The only plugins that may load; ``None`` for all."""
    only_by: str
    """Setting or variable of that rule, for errors."""
    disable: Mapping[str, str]
    """Plugins that may not load (``"*"``: none may), each with the setting or variable of the rule."""
    strict: bool
    """Whether a plugin that fails to load raises."""

    @classmethod
    def of(
        cls, *, only: Sequence[str] | None, disable: Iterable[str], strict: bool, environ: Mapping[str, str]
    ) -> Rules:
        """Return the combined rules of config and environment; the environment's allow list replaces the config's."""
        allowed = environ.get("QUEUEKIT_PLUGINS")
        names = only if allowed is None else allowed.split(",")
        denied = dict.fromkeys(_canonical(disable), "plugins.disable")
        denied |= dict.fromkeys(_canonical(environ.get("QUEUEKIT_DISABLE_PLUGINS", "").split(",")), _DISABLE)
        return cls(
            only=None if names is None else _canonical(names),
            only_by="plugins.only" if allowed is None else "QUEUEKIT_PLUGINS",
            disable=denied,
            strict=strict or environ.get("QUEUEKIT_STRICT_PLUGINS", "").strip().lower() not in _OFF,
        )

    def forbid(self, point: EntryPoint) -> str:
        """Return why *point* may not load, or an empty string."""
        names = {canonical(point.name), canonical(dist_name(point))}
        for name in (*sorted(names), "*"):
            if name in self.disable:
                return f"disabled by {self.disable[name]}"
        return f"not listed in {self.only_by}" if self.only is not None and not names & self.only else ""


def _canonical(names: Iterable[str]) -> frozenset[str]:
    return frozenset(canonical(name.strip()) for name in names if name.strip())


def discover(entry_points: Callable[[], Iterable[EntryPoint]], rules: Rules) -> Iterator[Plugin]:
    """Load the installed plugins one by one, unless a rule forbids it, and yield them; warn about failures.

    If no plugin may load, nothing is scanned.

    Raises:
        PluginError: A plugin failed to load, and the rules are strict.
    """
    if rules.only is not None and not rules.only:
        return
    for point in _ordered(entry_points):
        why = rules.forbid(point)
        plugin = disabled(point, why=why) if why else load_entry_point(point)
        if plugin.info.status == "failed":
            text = f"the plugin {point.name!r} ({plugin.info.label}) failed to load: {plugin.info.error}"
            if rules.strict:
                raise PluginError(text, fix="See:  queuekit plugins") from plugin.failure
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        yield plugin


def left_out(entry_points: Callable[[], Iterable[EntryPoint]], rules: Rules) -> list[Plugin]:
    """Return the installed plugins that :func:`discover` did not search for."""
    if rules.only is None or rules.only:
        return []
    return [disabled(point, why=rules.forbid(point)) for point in _ordered(entry_points)]


def unique(plugins: Iterable[Plugin]) -> list[Plugin]:
    """Return *plugins* with unique names: a repeated name gets ``@distribution``, a repeated module is disabled."""
    names: set[str] = set()
    modules: dict[int, str] = {}
    kept = []
    for plugin in plugins:
        info = plugin.info
        if info.name in names:
            info = attrs.evolve(info, name=f"{info.name}@{info.dist or 'local'}")
        if info.status == "ok" and id(plugin.module) in modules:
            info = attrs.evolve(info, status="disabled", error=f"the same module as {modules[id(plugin.module)]!r}")
        names.add(info.name)
        modules.setdefault(id(plugin.module), info.name)
        kept.append(attrs.evolve(plugin, info=info))
    return kept


def _ordered(entry_points: Callable[[], Iterable[EntryPoint]]) -> list[EntryPoint]:
    """Return the entry points sorted by name, without duplicates: a development install can list them twice."""
    found = {(point.name, dist_name(point)): point for point in entry_points()}
    return [found[key] for key in sorted(found)]
