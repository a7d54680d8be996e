"""The plugin: what there is, and who provides it. Imports no client library."""

from __future__ import annotations

from collections.abc import Iterable

from queuekit.hookspecs import SerializerSpec, hookimpl

queuekit_api = (1, 0)
"""Version of the plugin API that this is written for."""


@hookimpl
def queuekit_serializers() -> Iterable[SerializerSpec]:
    """Return the serializer."""
    return [
        SerializerSpec(
            name="old-serializer",
            factory="queuekit_old_serializer.serializer:OldSerializerSerializer",
            summary="values as old-serializer",
        )
    ]
