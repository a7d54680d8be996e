"""The indexes that queuekit's collections need, and how existing ones differ from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pymongo import IndexModel
from pymongo.collection import Collection

from queuekit_mongo.layout import GROUP_INDEXES, LANE_INDEXES, MESSAGE_INDEXES, RECORD_INDEXES, Doc

__all__ = ["INDEXES", "call_to_make", "in_the_way", "missing"]

INDEXES: Mapping[str, list[IndexModel]] = {
    "messages": MESSAGE_INDEXES,
    "queues": [],
    "lanes": LANE_INDEXES,
    "records": RECORD_INDEXES,
    "groups": GROUP_INDEXES,
}
"""Collections, without their prefix, and the indexes that each needs."""
_OPTIONS = ("unique", "expireAfterSeconds", "partialFilterExpression")
"""The options that define an index, in addition to its keys."""


def missing(collection: Collection[Doc], wanted: list[IndexModel]) -> list[IndexModel]:
    """Return those of *wanted* that *collection* lacks, even if it has another index of the same name."""
    there = collection.index_information()
    return [index for index in wanted if not _is(index, there.get(_name(index)))]


def in_the_way(collection: Collection[Doc], wanted: list[IndexModel]) -> list[str]:
    """Return the names of existing indexes that conflict with missing ones of *wanted*: same name or same keys."""
    there = collection.index_information()
    lacking = [index for index in wanted if not _is(index, there.get(_name(index)))]
    names, keys = {_name(index) for index in lacking}, [_keys(index) for index in lacking]
    return [name for name, each in there.items() if name in names or list(each["key"]) in keys]


def call_to_make(collection: Collection[Doc], index: IndexModel) -> str:
    """Return the MongoDB shell command that creates *index*."""
    document = dict(index.document)
    keys = dict(document.pop("key"))
    return f"db.getCollection({json.dumps(collection.name)}).createIndex({json.dumps(keys)}, {json.dumps(document)})"


def _is(index: IndexModel, there: Mapping[str, Any] | None) -> bool:
    """Return whether *there*, the existing index of that name, equals *index*."""
    if there is None or list(there["key"]) != _keys(index):
        return False
    return all(there.get(option) == index.document.get(option) for option in _OPTIONS)


def _name(index: IndexModel) -> str:
    return str(index.document["name"])


def _keys(index: IndexModel) -> list[tuple[str, Any]]:
    return list(index.document["key"].items())
