"""The built-in plugin: memory, sqlite, JSON and pickle, through the same hooks as any other plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from queuekit.backend import Backend, BackendCapabilities
from queuekit.broker import Broker, Capabilities
from queuekit.hookspecs import API_VERSION, BackendSpec, BrokerSpec, SerializerSpec, hookimpl
from queuekit.urls import EngineURL

queuekit_api = API_VERSION


@hookimpl
def queuekit_brokers() -> Iterable[BrokerSpec]:
    """Return the two brokers of core."""
    return [
        BrokerSpec(
            schemes=("memory",),
            factory="queuekit.engines.memory:MemoryBroker",
            capabilities=Capabilities(commit=True, processes=False, lanes=True),
            summary="queues inside this process, for tests",
        ),
        BrokerSpec(
            schemes=("sqlite",),
            factory="queuekit.engines.sqlite:SqliteBroker",
            capabilities=Capabilities(commit=True, lanes=True),
            options="queuekit.engines.sqlite:SqliteOptions",
            summary="queues in one file, for the processes of one machine",
        ),
    ]


@hookimpl
def queuekit_backends() -> Iterable[BackendSpec]:
    """Return the two result backends of core."""
    return [
        BackendSpec(
            schemes=("memory",),
            factory="queuekit.engines.memory:MemoryBackend",
            capabilities=BackendCapabilities(notify=True, processes=False, same=True),
            summary="results inside this process, for tests",
        ),
        BackendSpec(
            schemes=("sqlite",),
            factory="queuekit.engines.sqlite:SqliteBackend",
            capabilities=BackendCapabilities(notify=True, same=True),
            options="queuekit.engines.sqlite:SqliteOptions",
            summary="results in one file, for the processes of one machine",
        ),
    ]


@hookimpl
def queuekit_serializers() -> Iterable[SerializerSpec]:
    """Return the two serializers of core."""
    return [
        SerializerSpec(
            name="json",
            factory="queuekit.serializer:JsonSerializer",
            summary="JSON that keeps dates, tuples, sets, enums and attrs classes",
        ),
        SerializerSpec(
            name="pickle",
            factory="queuekit.serializer:PickleSerializer",
            safe=False,
            summary="any Python value; reading it can execute code that the sender wrote",
        ),
    ]


@hookimpl(trylast=True)
def queuekit_make_broker(url: EngineURL, spec: BrokerSpec, make: Callable[[], Broker]) -> Broker:  # noqa: ARG001
    """Create the broker as its spec says, if no other plugin does."""
    return make()


@hookimpl(trylast=True)
def queuekit_make_backend(url: EngineURL, spec: BackendSpec, make: Callable[[], Backend]) -> Backend:  # noqa: ARG001
    """Create the result backend as its spec says, if no other plugin does."""
    return make()
