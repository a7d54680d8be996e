"""The plugin: a middleware that makes spans, where the settings ask for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from queuekit.hookspecs import ConfigSection, MiddlewareSpec, SubscriberSpec, hookimpl
from queuekit_otel.options import OtelOptions, options_of

queuekit_api = (1, 1)


@hookimpl
def queuekit_config_sections() -> Iterable[ConfigSection]:
    """Own the table ``[otel]``."""
    return [ConfigSection(name="otel", options=OtelOptions)]


@hookimpl
def queuekit_middlewares(config: Any) -> Iterable[MiddlewareSpec]:
    """Make spans and metrics, if they are enabled."""
    options = options_of(config)
    if not options.enabled:
        return []
    from queuekit_otel.tracing import Tracing

    return [MiddlewareSpec(name="otel", factory=lambda: Tracing(config, options), order=0)]


@hookimpl
def queuekit_subscribers(config: Any) -> Iterable[SubscriberSpec]:
    """Count what limits refuse, and make spans of settled batches if the settings ask for them."""
    options = options_of(config)
    if not options.enabled:
        return []
    from queuekit.events import MessagesLimited, MessagesSettled
    from queuekit_otel.limiting import Limiting

    specs = [SubscriberSpec(subscriber=Limiting(config), events=(MessagesLimited,))]
    if options.settle:
        from queuekit_otel.settling import Settling

        specs.append(SubscriberSpec(subscriber=Settling(config), events=(MessagesSettled,)))
    return specs


@hookimpl
def queuekit_worker_stopped(worker: Any) -> None:
    """Export what the providers still hold, before the process ends."""
    if options_of(worker.app.config).enabled:
        from queuekit_otel.providers import flush

        flush()
