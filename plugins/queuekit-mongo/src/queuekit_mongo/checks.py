"""What an operator should know of the deployment: its age, missing indexes, where records may be lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queuekit_mongo.engine import INDEXES, Engine

__all__ = ["check"]

OLDEST_WIRE = 9
"""Version of the wire protocol that MongoDB 4.4 speaks."""


def check(engine: Engine) -> list[str]:
    """Return what is wrong with the deployment, one line each."""
    hello = dict(engine.database().client.admin.command("hello"))
    return [*_version(hello), *_lone(hello), *_weak(engine), *_missing(engine)]


def _version(hello: Mapping[str, Any]) -> list[str]:
    if int(hello.get("maxWireVersion", 0)) >= OLDEST_WIRE:
        return []
    return ["the server is older than MongoDB 4.4, which is needed"]


def _lone(hello: Mapping[str, Any]) -> list[str]:
    if "setName" in hello or hello.get("msg") == "isdbgrid":
        return []
    line = (
        "the server is no replica set: workers look for messages instead of being woken, and finish tasks by "
        "several writes instead of one transaction. A set of one will do: mongod --replSet rs0, then rs.initiate()"
    )
    return [line]


def _weak(engine: Engine) -> list[str]:
    written = engine.messages.write_concern.document.get("w", "majority")
    if written == "majority":
        return []
    return [f"w={written}: what a new primary has not seen is lost when the old one dies. Leave w out of the URL"]


def _missing(engine: Engine) -> list[str]:
    lines = []
    for name, wanted in INDEXES.items():
        if wanted:
            collection = engine.collection(name)
            there = collection.index_information()
            for index in wanted:
                document = index.document
                if document["name"] not in there:
                    keys = ", ".join(f"{field}: {way}" for field, way in document["key"].items())
                    lines.append(f"collection {collection.name} has no index {document['name']} on {{{keys}}}")
    return lines
