"""Finds plugins and loads each by itself, so that a broken plugin affects only apps that use it.

pluggy's own loader is not used: it stops at the first plugin that fails, silently drops the second of two equal names,
and imports a plugin before a rule can forbid it.
"""

from __future__ import annotations

import inspect
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs
import pluggy

from queuekit import hookspecs, lifecycle
from queuekit.errors import PluginError, did_you_mean
from queuekit.hookspecs import API_VERSION, BackendSpec, BrokerSpec, ConfigSection, SerializerSpec
from queuekit.urls import SCHEME
from queuekit.values import frozen

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "HISTORIC",
    "HOOKS",
    "Plugin",
    "PluginInfo",
    "canonical",
    "disabled",
    "dist_name",
    "installed",
    "load_entry_point",
    "load_object",
    "manager",
    "reason",
]

GROUP = "queuekit"
WRAPPABLE = frozenset({"queuekit_make_broker", "queuekit_make_backend"})
"""Hooks that pluggy itself calls, so that they may be wrappers."""

T = TypeVar("T")


@frozen(kw_only=True)
class PluginInfo:
    """A plugin as ``queuekit plugins`` lists it."""

    name: str
    """Name of the entry point or module; ``name@distribution`` if another distribution has that name too."""
    dist: str = ""
    """Distribution that provides it; empty for one that was registered by hand."""
    version: str = ""
    """Version of the distribution."""
    api: tuple[int, int] | None = None
    """Plugin API version that it declares; ``None`` if it declares none, or was not imported."""
    status: Literal["ok", "failed", "disabled"] = "ok"
    error: str = ""
    """Why it failed, or what disabled it."""
    schemes: tuple[str, ...] = ()
    """URL schemes that it serves, as broker or backend."""
    hooks: tuple[str, ...] = ()
    """Hooks that it implements."""
    load_ms: float = 0.0
    """Milliseconds taken by its import and its checks."""

    @property
    def label(self) -> str:
        """Distribution and version, or else the name; used in messages."""
        return f"{self.dist} {self.version}".strip() if self.dist else self.name

    @property
    def owner(self) -> str:
        """Its name in ``plugins.prefer``."""
        return self.dist or self.name


@frozen(kw_only=True, eq=False)
class Plugin:
    """A plugin and its specs; unless its status is ok, only ``info`` and ``failure`` are meaningful."""

    info: PluginInfo
    module: Any = None
    failure: BaseException | None = None
    brokers: tuple[BrokerSpec, ...] = ()
    backends: tuple[BackendSpec, ...] = ()
    serializers: tuple[SerializerSpec, ...] = ()
    sections: tuple[ConfigSection, ...] = ()


_MODULES = (hookspecs, lifecycle)
_HOOKS = {name: hook for module in _MODULES for name, hook in vars(module).items() if name.startswith("queuekit_")}
HOOKS = frozenset(_HOOKS)
"""Names of all hooks."""
HISTORIC = frozenset(name for name, hook in _HOOKS.items() if hook.queuekit_spec["historic"])
"""Hooks whose past calls are repeated for plugins that are registered later."""

_SPECS = ModuleType("queuekit_hooks")
"""All hooks and nothing else: pluggy looks at every name of what it is given."""
vars(_SPECS).update(_HOOKS)

_scanned: tuple[EntryPoint, ...] | None = None
_scanning = threading.Lock()
_dists: dict[int, str] = {}
"""Distribution of each entry point in ``_scanned``, by its id: asked for the name, each would parse its metadata."""
_loaded: dict[int, Plugin] = {}
"""Plugins that have loaded from one of those, likewise; the checks are not repeated for each app of a process."""


def manager() -> pluggy.PluginManager:
    """Return a new manager that knows all hooks."""
    made = pluggy.PluginManager(hookspecs.PROJECT)
    made.add_hookspecs(_SPECS)
    return made


def installed() -> tuple[EntryPoint, ...]:
    """Return the entry points of the group ``queuekit``; the environment is scanned once per process."""
    global _scanned  # noqa: PLW0603 - installed distributions belong to the process, not to an app
    with _scanning:
        if _scanned is None:
            from importlib.metadata import entry_points  # takes 40 ms, too long for ``import queuekit``

            _scanned = tuple(entry_points(group=GROUP))
            _dists.update({id(point): dist_name(point) for point in _scanned})
    return _scanned


def canonical(name: str) -> str:
    """Return the normalized name of a distribution or plugin, for comparison."""
    return re.sub(r"[-_.]+", "-", name).lower()


def dist_name(point: EntryPoint) -> str:
    """Return the distribution of an entry point, empty if it is unknown."""
    known = _dists.get(id(point))
    if known is not None:
        return known
    return str(point.dist.name) if point.dist is not None else ""


def disabled(point: EntryPoint, *, why: str) -> Plugin:
    """Return a plugin that is installed but not loaded; *why* names the rule."""
    return Plugin(info=_blank(point, status="disabled", error=why))


def load_entry_point(point: EntryPoint) -> Plugin:
    """Import and check one installed plugin, once per process; a failure is returned, not raised."""
    loaded = _loaded.get(id(point))
    if loaded is not None:
        return loaded
    blank = _blank(point)
    start = time.perf_counter()
    try:
        module = point.load()
        blank = attrs.evolve(blank, api=_pair(getattr(module, "queuekit_api", None)))
        loaded = _checked(module, blank, start=start, packaged=True)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - no error of a plugin may affect the others
        return _failed(blank, error, start=start)
    if id(point) in _dists:
        _loaded[id(point)] = loaded
    return loaded


def load_object(target: object, *, name: str) -> Plugin:
    """Check a plugin that no distribution provides: an object with hooks, or the dotted name of a module.

    Raises:
        PluginError: It cannot be imported or used. This raises at once, since the plugin was named explicitly.
    """
    start = time.perf_counter()
    try:
        module = import_module(target) if isinstance(target, str) else target
        return _checked(module, PluginInfo(name=name), start=start, packaged=False)
    except Exception as error:
        raise PluginError(f"the plugin {name!r} cannot be used: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return an error in one line, with its class name unless it is a ``PluginError``."""
    text = " ".join(str(error).split())
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}".rstrip(": ")


def _blank(point: EntryPoint, **changes: Any) -> PluginInfo:
    version = str(point.dist.version) if point.dist is not None else ""
    return PluginInfo(name=point.name, dist=dist_name(point), version=version, **changes)


def _failed(blank: PluginInfo, error: BaseException, *, start: float) -> Plugin:
    took = (time.perf_counter() - start) * 1000
    return Plugin(info=attrs.evolve(blank, status="failed", error=reason(error), load_ms=took), failure=error)


def _checked(module: Any, blank: PluginInfo, *, start: float, packaged: bool) -> Plugin:
    """Check a plugin on a separate manager and return it with its specs."""
    api = _check_api(getattr(module, "queuekit_api", None if packaged else API_VERSION))
    scratch = manager()
    scratch.register(module, blank.name)
    _check_pending(scratch)
    hooks = _check_hooks(module, scratch)
    brokers = _specs(scratch.hook.queuekit_brokers, BrokerSpec)
    backends = _specs(scratch.hook.queuekit_backends, BackendSpec)
    served = [_check_schemes(brokers), _check_schemes(backends)]
    info = attrs.evolve(
        blank,
        api=api,
        hooks=hooks,
        schemes=tuple(dict.fromkeys(scheme for schemes in served for scheme in schemes)),
        load_ms=(time.perf_counter() - start) * 1000,
    )
    return Plugin(
        info=info,
        module=module,
        brokers=brokers,
        backends=backends,
        serializers=_specs(scratch.hook.queuekit_serializers, SerializerSpec),
        sections=_specs(scratch.hook.queuekit_config_sections, ConfigSection),
    )


def _check_pending(scratch: pluggy.PluginManager) -> None:
    """Raise if a hook is unknown; pluggy's own message would show the module's address."""
    try:
        scratch.check_pending()
    except pluggy.PluginValidationError as error:
        name = str(error).partition("'")[2].partition("'")[0]
        near = did_you_mean(name, HOOKS)
        raise PluginError(f"unknown hook {name!r}{', ' + near if near else ''}") from None


def _pair(api: object) -> tuple[int, int] | None:
    """Return the API version that a plugin declares, supported or not; ``None`` if it is not a version."""
    match api:
        case (int(major), int(minor)):
            return major, minor
        case _:
            return None


def _check_api(api: object) -> tuple[int, int]:
    """Return the API version that a plugin declares; raise if this core does not support it."""
    if api is None:
        raise PluginError("it does not declare queuekit_api")
    pair = _pair(api)
    if pair is None:
        raise PluginError(f"its queuekit_api is {api!r}, not a pair such as {API_VERSION}")
    if pair[0] != API_VERSION[0] or pair[1] > API_VERSION[1]:
        wanted, offered = (".".join(map(str, version)) for version in (pair, API_VERSION))
        raise PluginError(f"it needs plugin API {wanted}, this queuekit offers {offered}")
    return pair


def _check_hooks(module: Any, scratch: pluggy.PluginManager) -> tuple[str, ...]:
    """Return the names of a plugin's hooks; raise if a hook would never be called as intended."""
    callers = scratch.get_hookcallers(module) or []
    hooks = tuple(sorted(caller.name for caller in callers))
    for caller in callers:
        for hook in caller.get_hookimpls():
            _check_hook(caller.name, hook)
    for name in sorted(HOOKS.difference(hooks).intersection(dir(module))):
        if inspect.isroutine(getattr(module, name)):
            raise PluginError(f"its function {name} lacks @hookimpl")
    return hooks


def _check_hook(name: str, hook: pluggy.HookImpl) -> None:
    """Raise if a hook is not a plain function."""
    if inspect.iscoroutinefunction(hook.function):
        raise PluginError(f"its hook {name} is async; hooks are plain functions")
    if (hook.hookwrapper or hook.wrapper) and name not in WRAPPABLE:
        raise PluginError(f"its hook {name} is a wrapper; only {' and '.join(sorted(WRAPPABLE))} can be")


def _specs(hook: Callable[[], Iterable[Iterable[Any] | None]], kind: type[T]) -> tuple[T, ...]:
    """Call a hook and return its specs; raise if one has the wrong type."""
    specs = tuple(spec for answer in hook() for spec in answer or ())
    for spec in specs:
        if not isinstance(spec, kind):
            raise PluginError(f"it returned {type(spec).__name__} where {kind.__name__} is expected")
    return specs


def _check_schemes(specs: Sequence[BrokerSpec | BackendSpec]) -> list[str]:
    """Return all schemes of *specs*; raise if one is malformed or occurs twice."""
    schemes: list[str] = []
    for spec in specs:
        if not spec.schemes:
            raise PluginError(f"it returned a {type(spec).__name__} without schemes")
        for scheme in spec.schemes:
            if not isinstance(scheme, str) or not SCHEME.fullmatch(scheme):
                raise PluginError(f"its scheme {scheme!r} does not match {SCHEME.pattern}")
            if scheme in schemes:
                raise PluginError(f"it serves {scheme}:// twice")
            schemes.append(scheme)
    return schemes
