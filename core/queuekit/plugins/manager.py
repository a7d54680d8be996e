"""The plugins of one app: loaded at first use, selected by URL scheme, called one by one.

Nothing here runs per message. No plugin is searched for or imported before a broker, a backend, a serializer or a hook
is needed.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import attrs

from queuekit.backend import Backend
from queuekit.broker import Broker
from queuekit.clock import Clock
from queuekit.errors import ConfigError, PluginError, QueuekitError
from queuekit.forks import renew_in_forks
from queuekit.hookspecs import BackendSpec, BrokerSpec
from queuekit.plugins import builtin
from queuekit.plugins import factory as factories
from queuekit.plugins import options as fields
from queuekit.plugins.catalogue import EXTRAS, Catalogue, Choice, Offer, install_line
from queuekit.plugins.discovery import Rules, discover, left_out, unique
from queuekit.plugins.factory import resolve, section_of
from queuekit.plugins.loading import (
    HISTORIC,
    Plugin,
    PluginInfo,
    installed,
    load_entry_point,
    load_object,
    manager,
    reason,
)
from queuekit.serializer import Serializer
from queuekit.urls import EngineURL

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["PluginInfo", "Plugins", "resolve", "section_of"]

Side = Literal["broker", "backend", "serializer"]

_log = logging.getLogger("queuekit.plugins")


class Plugins:
    """All plugins of an app.

    Args:
        only: Names of the installed plugins that may load, by entry point or distribution; ``None`` for all.
            ``QUEUEKIT_PLUGINS`` overrides it (an empty value means none).
        disable: Names of plugins that may not load; ``"*"`` for all. ``QUEUEKIT_DISABLE_PLUGINS`` adds to it.
        prefer: Distribution to use for a scheme that several serve, by scheme.
        strict: Whether a plugin that fails to load raises at once; ``QUEUEKIT_STRICT_PLUGINS=1`` sets it too.
        load: Dotted names of modules to load as plugins that are not installed as such.
        entry_points: Returns the installed entry points, for tests; default: the process's, scanned once.
        environ: Environment to read; default: the process's.
    """

    def __init__(
        self,
        *,
        only: Sequence[str] | None = None,
        disable: Sequence[str] = (),
        prefer: Mapping[str, str] | None = None,
        strict: bool = False,
        load: Sequence[str] = (),
        entry_points: Callable[[], Iterable[EntryPoint]] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._environ = environ
        self._only = only
        self._disable = tuple(disable)
        self._prefer = dict(prefer or {})
        self._strict = strict
        self._load = tuple(load)
        self._entry_points = entry_points or installed
        self.renew_in_fork()
        renew_in_forks(self)
        self._manager = manager()
        self._by_hand: list[Plugin] = []
        self._plugins: list[Plugin] = []
        self._failed: dict[str, str] = {}
        self._catalogue: Catalogue | None = None
        self._history: list[tuple[str, dict[str, Any]]] = []

    def renew_in_fork(self) -> None:
        """Create a new lock: another thread of the parent may have held the old one."""
        self._lock = threading.RLock()

    # --- choosing -----------------------------------------------------------------------------------------------------

    def offer(self, side: Side, wanted: EngineURL | str, *, setting: str = "", where: str = "") -> Offer[Any]:
        """Return the spec, and the plugin, of the engine that serves a URL or of the serializer with a name.

        Args:
            side: Kind of engine.
            wanted: The configured URL of a broker or backend, or name of a serializer.
            setting: Setting that holds it, for errors; default: *side*.
            where: Origin of its value, e.g. ``"queuekit.toml"``, for errors.

        Raises:
            UnknownSchemeError: No plugin serves the scheme, or provides the serializer.
            PluginError: The plugin that does is disabled or failed to load.
            SchemeConflictError: Several plugins do, and none is preferred.
        """
        return self._loaded().offer(side, wanted, _choice(side, wanted, setting, where))

    def import_engine(self, scheme: str) -> None:
        """Import what serves a scheme if it is core or its own extra, before any plugin is loaded.

        A fork then shares it. Errors are left to the loading of the plugin.
        """
        rules = self._rules()
        names = {scheme, EXTRAS.get(scheme)}
        found = [load_object(builtin, name="builtin")]
        if rules.only is None or rules.only:
            points = [point for point in self._entry_points() if point.name in names and not rules.forbid(point)]
            found += [load_entry_point(point) for point in points]
        for plugin in found:
            specs: tuple[BrokerSpec | BackendSpec, ...] = (*plugin.brokers, *plugin.backends)
            for spec in specs:
                if scheme in spec.schemes:
                    with suppress(Exception):
                        resolve(spec.factory)

    def has_backend(self, scheme: str) -> bool:
        """Return whether a result backend serves *scheme*."""
        return scheme in self._loaded().offers["backend"]

    # --- making -------------------------------------------------------------------------------------------------------

    def make(
        self,
        side: Literal["broker", "backend"],
        url: EngineURL,
        *,
        table: Mapping[str, Any],
        clock: Clock,
        random: Random,
        setting: str = "",
        where: str = "",
    ) -> Any:
        """Return a broker or backend for *url*; it connects at first use.

        Args:
            side: Which of the two.
            url: The configured URL; its query overrides *table*.
            table: The plugin's table in the config, see :func:`section_of`.
            clock: Source of time for engines without a server clock.
            random: Source of randomness for tokens and jitter.
            setting: As for :meth:`offer`.
            where: As for :meth:`offer`.

        Raises:
            ConfigError: Options are unknown or not valid.
            PluginError: As for :meth:`offer`, or the engine cannot be created.
        """
        choice = _choice(side, url, setting, where)
        offer = self._loaded().offer(side, url, choice)
        hook = getattr(self._manager.hook, f"queuekit_make_{side}")
        base: type[Any] = Broker if side == "broker" else Backend
        return self._make(hook, base, offer, url, choice=choice, table=table, clock=clock, random=random)

    def make_serializer(
        self,
        name: str,
        types: Callable[[str], type | None],
        *,
        allow_unsafe: Iterable[str] = (),
        setting: str = "",
        where: str = "",
    ) -> Serializer:
        """Return the serializer *name*.

        Args:
            name: Name in its spec.
            types: Finds a class by its name in messages.
            allow_unsafe: Names of serializers that are allowed although they can execute code from a message.
            setting: As for :meth:`offer`.
            where: As for :meth:`offer`.

        Raises:
            ConfigError: It can execute code, and is not allowed.
            PluginError: As for :meth:`offer`, or it cannot be created, or does not match its spec.
        """
        choice = _choice("serializer", name, setting, where)
        offer = self._loaded().offer("serializer", name, choice)
        if not offer.spec.safe and name not in allow_unsafe:
            what = f"the serializer {name!r} can execute code from a message"
            fix = f'If you trust everyone who can write to the broker, set  allow_unsafe = ["{name}"]'
            raise ConfigError(what, where=str(choice), fix=fix)
        try:
            made: Serializer = resolve(offer.spec.factory)(types)
            factories.check_serializer(made, offer.spec)
        except Exception as error:
            text = reason(error)
            raise factories.wrap_error(
                error, offer.info, shown=f"serializer {name!r}", choice=choice, text=text
            ) from error
        return made

    def _make(
        self,
        hook: Callable[..., Any],
        base: type[Any],
        offer: Offer[Any],
        url: EngineURL,
        *,
        choice: Choice,
        table: Mapping[str, Any],
        **arguments: Any,
    ) -> Any:
        """Create an engine through its hook; errors name the plugin."""
        spec = offer.spec
        try:
            kind = resolve(spec.options)
            owners = self._option_classes(section_of(spec))
            options = factories.make_options(
                kind, url, table, owners=owners, setting=choice.setting, label=offer.info.label
            )
            factory = resolve(spec.factory)

            def make() -> Any:
                return factories.with_defaults(factory(url, options=options, **arguments), spec, base)

            # Again, since a hook may return an engine that it did not create with make().
            return factories.with_defaults(hook(url=url, spec=spec, make=make), spec, base)
        except PluginError as error:
            error.where = error.where or str(choice)
            error.what = f"the plugin for {url.scheme}:// ({offer.info.label}) failed: {error.what}"
            raise
        except QueuekitError:
            raise
        except Exception as error:  # noqa: BLE001 - a factory may raise anything; the error names its plugin
            text = url.hide(reason(error))
            # A traceback prints the cause with its own text, so drop a cause whose text has the password.
            cause = error if text == reason(error) else None
            raise factories.wrap_error(error, offer.info, shown=f"{url.scheme}://", choice=choice, text=text) from cause

    # --- config tables ------------------------------------------------------------------------------------------------

    def check_table(self, name: str, table: Mapping[str, Any], *, others: Iterable[str] = ()) -> dict[str, str]:
        """Return the problems of the plugin table *name* in the config, by key; under ``""`` if no plugin owns it.

        The table of a disabled plugin is not checked. *others* are names of further tables, for suggestions.
        """
        catalogue = self._loaded()
        sections = self._sections()
        if name in sections:
            return factories.table_problems(table, self._option_classes(name), label=sections[name][0][1].label)
        plugin = catalogue.unusable(name)
        if plugin is not None:
            failed = plugin.info.status == "failed"
            return {"": f"belongs to {plugin.info.label}, which failed to load"} if failed else {}
        # A table may have the name of the extra, like [mongo] for mongodb://.
        install = next((install_line(scheme) for scheme, extra in EXTRAS.items() if name in {scheme, extra}), "")
        unknown = fields.unknown(name, [*others, *sections], what="unknown table")
        return {"": f"no plugin owns this table. {install}" if install else unknown}

    def _sections(self) -> dict[str, list[tuple[Any, PluginInfo]]]:
        """Return the options of each table, as named in specs, with their plugins."""
        found: dict[str, list[tuple[Any, PluginInfo]]] = {}
        for plugin in self._plugins:
            specs: tuple[BrokerSpec | BackendSpec, ...] = (*plugin.brokers, *plugin.backends)
            for spec in specs:
                found.setdefault(section_of(spec), []).append((spec.options, plugin.info))
            for section in plugin.sections:
                found.setdefault(section.name, []).append((section.options, plugin.info))
        return found

    def _option_classes(self, section: str) -> dict[type, PluginInfo]:
        """Import and return the classes that read the table *section*, with their plugins."""
        named = self._sections().get(section, [])
        return {factories.options_class(each, label=info.label): info for each, info in named if each is not None}

    # --- calling ------------------------------------------------------------------------------------------------------

    def call(self, hook_name: str, *, raising: bool = False, **arguments: Any) -> None:
        """Call a hook of every plugin, one by one.

        The call of a historic hook is stored and repeated for plugins that load later, so it does not load plugins.

        Args:
            hook_name: Name of the hook.
            raising: Whether to raise the first error; otherwise errors are logged.
            **arguments: Arguments of the hook.

        Raises:
            PluginError: A plugin failed, and *raising* is set; queuekit's own errors pass unchanged.
        """
        historic = hook_name in HISTORIC
        with self._lock:
            if historic and not raising and self._catalogue is None:
                self._history.append((hook_name, arguments))
                return
        self._loaded()
        if historic:
            self._history.append((hook_name, arguments))
        for name, answer in self._answers(hook_name, arguments):
            try:
                answer()
            except Exception as error:
                if raising and isinstance(error, QueuekitError):
                    raise
                what = f"the plugin {self._label(name)} failed in {hook_name}: {reason(error)}"
                if raising:
                    raise PluginError(what) from error
                _log.exception(what)

    def collect(self, hook_name: str, **arguments: Any) -> list[Any]:
        """Return the results of a hook of all plugins as one list; log an error, and list its plugin as failed."""
        self._loaded()
        found: list[Any] = []
        for name, answer in self._answers(hook_name, arguments):
            try:
                found += list(answer() or ())
            except Exception as error:  # noqa: BLE001 - no error of a plugin may affect the others
                _log.exception("the plugin %s failed in %s", self._label(name), hook_name)
                self._failed[name] = reason(error)
        return found

    def _answers(self, hook_name: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield each plugin's name and its bound hook; pluggy's own call would stop at the first error."""
        for impl in reversed(getattr(self._manager.hook, hook_name).get_hookimpls()):
            yield impl.plugin_name, partial(impl.function, *(arguments[name] for name in impl.argnames))

    def _label(self, name: str) -> str:
        return next((plugin.info.label for plugin in self._plugins if plugin.info.name == name), name)

    # --- loading ------------------------------------------------------------------------------------------------------

    def register(self, target: object, name: str | None = None) -> None:
        """Register a plugin that no distribution provides: an object with hooks, or the dotted name of a module.

        Raises:
            PluginError: It cannot be used, or is already registered.
        """
        called = name or str(target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__))
        plugin = load_object(target, name=called)
        with self._lock:
            if any(plugin.module is known.module for known in (*self._plugins, *self._by_hand)):
                raise PluginError(f"the plugin {called!r} is already registered")
            self._by_hand.append(plugin)
            if self._catalogue is not None:
                self._plugins = unique([*self._plugins, plugin])
                self._catalogue = self._new_catalogue()
                self._enlist(self._plugins[-1])

    def infos(self) -> list[PluginInfo]:
        """Return all plugins, including failed and disabled ones; built-in ones first."""
        self._loaded()
        infos = [plugin.info for plugin in unique([*self._plugins, *self._left_out()])]
        late = self._failed
        return [
            attrs.evolve(info, status="failed", error=late[info.name]) if info.name in late else info for info in infos
        ]

    def _loaded(self) -> Catalogue:
        """Return the offers of all plugins; load the plugins at the first call.

        Raises:
            PluginError: A plugin failed to load and the rules are strict, or one that the config names cannot be used.
        """
        with self._lock:
            if self._catalogue is None:
                core = load_object(builtin, name="builtin")
                core = attrs.evolve(core, info=attrs.evolve(core.info, dist="queuekit"))
                by_name = [load_object(module, name=module) for module in self._load]
                self._plugins = unique([core, *discover(self._entry_points, self._rules()), *by_name, *self._by_hand])
                self._catalogue = self._new_catalogue()
                for plugin in self._plugins:
                    self._enlist(plugin)
            return self._catalogue

    def _rules(self) -> Rules:
        environ = os.environ if self._environ is None else self._environ
        return Rules.of(only=self._only, disable=self._disable, strict=self._strict, environ=environ)

    def _new_catalogue(self) -> Catalogue:
        return Catalogue(self._plugins, prefer=self._prefer, left_out=self._left_out)

    def _left_out(self) -> list[Plugin]:
        return left_out(self._entry_points, self._rules())

    def _enlist(self, plugin: Plugin) -> None:
        """Include a plugin in hook calls, and repeat the historic calls that it missed."""
        if plugin.info.status != "ok":
            return
        self._manager.register(plugin.module, plugin.info.name)
        for hook_name, arguments in self._history:
            mine = [answer for name, answer in self._answers(hook_name, arguments) if name == plugin.info.name]
            for answer in mine:
                try:
                    answer()
                except Exception:  # noqa: BLE001 - logged, since the original call has returned long ago
                    _log.exception("the plugin %s failed in %s", plugin.info.label, hook_name)


def _choice(side: str, wanted: EngineURL | str, setting: str, where: str) -> Choice:
    return Choice(setting=setting or side, value=str(wanted), origin=where)
