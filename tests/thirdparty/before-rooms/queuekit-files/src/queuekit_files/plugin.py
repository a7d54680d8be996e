"""The plugin: what there is, and who provides it. Imports no client library."""

from __future__ import annotations

from collections.abc import Iterable

from queuekit.broker import Capabilities, Limits
from queuekit.hookspecs import BrokerSpec, hookimpl

queuekit_api = (1, 0)
"""Version of the plugin API that this is written for."""

CAPABILITIES = Capabilities(
    dedup=False, unique=False, blocking_receive=False, inspect=False, remove=False, dead_letters=False
)
"""What a folder cannot do by itself; the rest is declared, and tested."""


@hookimpl
def queuekit_brokers() -> Iterable[BrokerSpec]:
    """Return the broker."""
    return [
        BrokerSpec(
            schemes=("files",),
            factory="queuekit_files.broker:FilesBroker",
            capabilities=CAPABILITIES,
            limits=Limits(max_batch=100, lease_granularity=0.02),
            summary="queues in a folder, for the processes of one machine",
        )
    ]
