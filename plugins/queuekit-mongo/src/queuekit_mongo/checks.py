"""Report an old server, missing rights or indexes, and settings that may lose records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.errors import OperationFailure

from queuekit_mongo.engine import Engine
from queuekit_mongo.failures import NOT_ALLOWED
from queuekit_mongo.indexes import INDEXES, call_to_make, missing

__all__ = ["check"]

_ROOM = 500_000_000
"""Free bytes on the server's disk below which the check warns."""
OLDEST_WIRE = 9
"""Version of the wire protocol of MongoDB 4.4."""


def check(engine: Engine) -> list[str]:
    """Return the problems of the deployment, one line each."""
    hello = dict(engine.database().client.admin.command("hello"))
    about = [*_version(hello), *_lone(hello), *_weak(engine, hello), *_room(engine)]
    return [*about, *_rights(engine), *_missing(engine)]


def _version(hello: Mapping[str, Any]) -> list[str]:
    if int(hello.get("maxWireVersion", 0)) >= OLDEST_WIRE:
        return []
    return ["the server is older than MongoDB 4.4; queuekit needs 4.4 or later"]


def _lone(hello: Mapping[str, Any]) -> list[str]:
    if "setName" in hello or hello.get("msg") == "isdbgrid":
        return []
    line = (
        "the server is not a replica set: workers poll for messages instead of being notified, and finish tasks by "
        "several writes instead of one transaction. One member is enough: mongod --replSet rs0, then rs.initiate()"
    )
    return [line]


def _weak(engine: Engine, hello: Mapping[str, Any]) -> list[str]:
    """Return a line if a numeric write concern is too low; custom names cannot be checked."""
    written = engine.messages.write_concern.document.get("w", "majority")
    members = len([*hello.get("hosts", ()), *hello.get("passives", ())])
    if not isinstance(written, int) or (written > 1 and written * 2 > members):
        return []
    return [f"w={written}: a new primary may lack acknowledged writes, which are then lost. Remove w from the URL"]


def _room(engine: Engine) -> list[str]:
    """Return a line if the disk is nearly full; nothing if this user may not read the statistics."""
    try:
        stats = engine.database().command("dbStats")
    except OperationFailure:
        return []
    free = float(stats.get("fsTotalSize", 0)) - float(stats.get("fsUsedSize", 0))
    if "fsTotalSize" not in stats or free >= _ROOM:
        return []
    return [f"only {free / 1e6:.0f} MB are free on the server's disk: it refuses writes when the disk is full"]


def _rights(engine: Engine) -> list[str]:
    """Try an update that matches no document."""
    try:
        engine.messages.update_one({"_id": None}, {"$set": {"state": None}})
    except OperationFailure as error:
        if error.code != NOT_ALLOWED:
            raise
        return ["the user may read but not write: grant the role readWrite on the database"]
    return []


def _missing(engine: Engine) -> list[str]:
    lines = []
    for name, wanted in INDEXES.items():
        if wanted:
            collection = engine.collection(name)
            for index in missing(collection, wanted):
                it = index.document["name"]
                call = call_to_make(collection, index)
                lines.append(f"collection {collection.name} has no index {it}, or a different one of that name: {call}")
    return lines
