"""The runtime of an app, built once from its config: plugins, broker, backend, serializers, middleware, events."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Literal

from queuekit.backend import Backend
from queuekit.broker import Broker
from queuekit.clock import Clock
from queuekit.config.settings import Config, check_sections
from queuekit.engines.backend_clock import BackendClock
from queuekit.engines.copies import WithoutCopies
from queuekit.engines.dead_letters import WithDeadLetters
from queuekit.engines.stable_tokens import WithStableTokens
from queuekit.engines.uniqueness import WithUniqueKeys
from queuekit.errors import CapabilityError, NoBackendError, PluginError, UnavailableError
from queuekit.events import Events
from queuekit.hookspecs import MiddlewareSpec, SubscriberSpec
from queuekit.middleware import Middleware, Stages, check_methods, compile_stages
from queuekit.plugins.factory import resolve
from queuekit.plugins.loading import reason
from queuekit.plugins.manager import Plugins, section_of
from queuekit.serializer import Serializer
from queuekit.urls import EngineURL, mask
from queuekit.values import frozen
from queuekit.wire.signing import Signing

__all__ = ["Runtime", "build_runtime"]


@frozen(kw_only=True)
class Runtime:
    """The parts of a configured app; engines connect at first use."""

    config: Config
    plugins: Plugins
    broker: Broker
    backend: Backend | None
    serializer: Serializer
    """Writes payloads and results."""
    accepted: Mapping[str, Serializer]
    """Serializers that may be read, by content type."""
    stages: Stages
    events: Events
    clock: Clock
    random: random.Random
    signing: Signing | None = None
    """Signs what is sent and stored, and checks it; ``None`` without keys."""

    @property
    def shared(self) -> bool:
        """Whether broker and backend are one engine that can commit (QK12)."""
        broker, backend = self.broker, self.backend
        same = backend is not None and broker.engine_id is not None and broker.engine_id == backend.engine_id
        return same and broker.capabilities.commit

    @property
    def lease(self) -> float:
        """Seconds of a lease: ``worker.lease``, or the broker's longest if that is less."""
        longest = self.broker.limits.max_lease
        return min(self.config.worker.lease, self.config.worker.lease if longest is None else longest)

    @property
    def tells_time(self) -> bool:
        """Whether moments mean the same to all who use the broker: on its service's clock, or on the backend's.

        A backend that does not answer passes for one that tells the time.
        """
        if self.broker.capabilities.tells_time:
            return True
        try:
            return self.backend is not None and self.backend.now() is not None
        except UnavailableError:
            return True

    def now(self) -> float:
        """Return UTC epoch seconds on the backend's clock if it has one, else on this machine's."""
        reported = self.backend.now() if self.backend is not None else None
        return self.clock.time() if reported is None else reported

    def need_backend(self, why: str) -> Backend:
        """Return the backend.

        Raises:
            NoBackendError: None is configured; *why* says what needs one.
        """
        if self.backend is None:
            raise NoBackendError(
                f"{why} needs a result backend, and none is configured",
                where=f"  broker = {mask(self.config.broker)!r}, backend = {self.config.backend or 'none'!r}",
                fix='Set one, e.g.  backend = "sqlite:///results.db"',
            )
        return self.backend

    def need_listing(self, why: str) -> Backend:
        """Return the backend, which can list its records.

        Raises:
            NoBackendError: None is configured; *why* says what needs one.
            CapabilityError: It cannot.
        """
        backend = self.need_backend(why)
        if not backend.capabilities.scan:
            scheme = self.backend_url.scheme if self.backend_url is not None else "the backend"
            raise CapabilityError(
                f"{why} needs a backend that can list its records; {scheme}:// cannot (capability scan)",
                fix='Use another backend, e.g.  backend = "sqlite:///results.db"',
            )
        return backend

    @property
    def broker_url(self) -> EngineURL:
        """The broker's URL; its text hides the password."""
        return self.config.url("broker")

    @property
    def backend_url(self) -> EngineURL | None:
        """The backend's URL, or ``None`` without a backend."""
        return backend_url(self.config, self.plugins)

    def close(self) -> None:
        """Close broker and backend; they reconnect when used."""
        try:
            self.broker.close()
        finally:
            if self.backend is not None:
                self.backend.close()


def backend_url(config: Config, plugins: Plugins) -> EngineURL | None:
    """Return the backend's URL: as set, else the broker's if that engine is also a backend, else ``None``."""
    if config.backend is not None:
        return None if config.backend in ("none", "") else config.url("backend")
    url = config.url("broker", of="backend")
    return url if plugins.has_backend(url.scheme) else None


def _engines(config: Config, plugins: Plugins, **made: Any) -> tuple[Broker, Backend | None]:
    """Create broker and backend from their URLs, their plugins' tables and the arguments *made* of all engines."""
    url, borrowed = config.url("broker"), BackendClock(made["clock"])
    tells_time = plugins.offer("broker", url, where=config.origin("broker")).spec.capabilities.tells_time
    broker: Broker = _engine("broker", url, config, plugins, **made if tells_time else {**made, "clock": borrowed})
    object.__setattr__(broker, "largest_wanted", config.max_message_bytes)
    stored = backend_url(config, plugins)
    if stored is None:
        return _completed(broker, None), None
    backend: Backend = _engine("backend", stored, config, plugins, **made)
    borrowed.follow(backend)
    broker.share(backend)
    return _completed(broker, backend), backend


def _engine(side: Literal["broker", "backend"], url: EngineURL, config: Config, plugins: Plugins, **made: Any) -> Any:
    origin = config.origin("backend" if side == "backend" and config.backend else "broker")
    table = config.sections.get(section_of(plugins.offer(side, url, where=origin).spec), {})
    return plugins.make(side, url, table=table, where=origin, **made)


def _completed(broker: Broker, backend: Backend | None) -> Broker:
    """Return *broker* with what core adds: stable tokens, and what records of *backend* make up for."""
    if type(broker).renew is not Broker.renew:
        broker = WithStableTokens(broker)
    if backend is None:
        return broker
    commits = broker.capabilities.commit and broker.engine_id is not None and broker.engine_id == backend.engine_id
    if not broker.capabilities.dead_letters and backend.capabilities.scan:
        broker, commits = WithDeadLetters(broker, backend), False
    if not broker.capabilities.dedup and not commits:
        broker = WithoutCopies(broker, backend)
    return broker if broker.capabilities.unique else WithUniqueKeys(broker, backend)


def _serializers(config: Config, plugins: Plugins, types: Callable[[str], type | None]) -> dict[str, Serializer]:
    """Create the serializer for writing and the accepted ones, by name."""
    origins = dict.fromkeys([config.serializer, *config.accept], config.origin("accept"))
    origins[config.serializer] = config.origin("serializer")
    return {
        name: plugins.make_serializer(name, types, allow_unsafe=config.allow_unsafe, where=origin)
        for name, origin in origins.items()
    }


def build_runtime(
    config: Config,
    plugins: Plugins,
    *,
    types: Callable[[str], type | None],
    middlewares: list[Middleware],
    clock: Clock,
    chance: random.Random,
    events: Events,
) -> Runtime:
    """Create the parts that *config* names.

    Raises:
        ConfigError: A setting is not valid, or an unsafe serializer is not allowed.
        PluginError: No plugin serves a scheme, or the plugin is broken.
    """
    check_sections(config, plugins)
    broker, backend = _engines(config, plugins, clock=clock, random=chance)
    serializers = _serializers(config, plugins, types)
    for found in plugins.collect("queuekit_subscribers", config=config):
        if isinstance(found, SubscriberSpec):
            events.subscribe(found.subscriber, to=found.events)
        else:
            events.subscribe(found)
    return Runtime(
        config=config,
        plugins=plugins,
        broker=broker,
        backend=backend,
        serializer=serializers[config.serializer],
        accepted={one.content_type: one for one in serializers.values()},
        stages=compile_stages([*middlewares, *_plugged(plugins, config)]),
        events=events,
        clock=clock,
        random=chance,
        signing=Signing(keys, required=config.signing == "require") if (keys := config.signing_keys) else None,
    )


def _plugged(plugins: Plugins, config: Config) -> list[Middleware]:
    """Return the middlewares of plugins, in order."""
    specs = sorted(plugins.collect("queuekit_middlewares", config=config), key=lambda spec: (spec.order, spec.name))
    return [_made(spec) for spec in specs]


def _made(spec: MiddlewareSpec) -> Middleware:
    """Create a plugin's middleware; a failure raises, since the app may rely on it for protection."""
    try:
        made = resolve(spec.factory)()
        if isinstance(made, Middleware):
            check_methods(made)
    except Exception as error:
        raise PluginError(f"the plugin middleware {spec.name!r} cannot be created: {reason(error)}") from error
    if not isinstance(made, Middleware):
        raise PluginError(f"the plugin middleware {spec.name!r} is {type(made).__name__}, not a Middleware")
    return made
