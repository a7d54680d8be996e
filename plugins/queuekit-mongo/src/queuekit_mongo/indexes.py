"""The indexes that our collections need, and how existing ones differ from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pymongo import IndexModel
from pymongo.collection import Collection

from queuekit_mongo.layout import GROUP_INDEXES, MESSAGE_INDEXES, RECORD_INDEXES, Doc

__all__ = ["INDEXES", "call_to_make", "in_the_way", "missing"]

INDEXES: Mapping[str, list[IndexModel]] = {
    "messages": MESSAGE_INDEXES,
    "queues": [],
    "records": RECORD_INDEXES,
    "groups": GROUP_INDEXES,
}
"""Collections, without their prefix, and the indexes that each needs."""
_OPTIONS = ("unique", "expireAfterSeconds", "partialFilterExpression")
"""What makes an index what it is, beside its keys."""


def missing(collection: Collection[Doc], wanted: list[IndexModel]) -> list[IndexModel]:
    """Return those of *wanted* that *collection* has not, be there another of the same name or none."""
    there = collection.index_information()
    return [index for index in wanted if not _is(index, there.get(_name(index)))]


def in_the_way(collection: Collection[Doc], wanted: list[IndexModel]) -> list[str]:
    """Return the names of indexes beside which the server makes none of *wanted*: another with its name or its keys."""
    there = collection.index_information()
    lacking = [index for index in wanted if not _is(index, there.get(_name(index)))]
    names, keys = {_name(index) for index in lacking}, [_keys(index) for index in lacking]
    return [name for name, each in there.items() if name in names or list(each["key"]) in keys]


def call_to_make(collection: Collection[Doc], index: IndexModel) -> str:
    """Return what to type into MongoDB's shell so that there is *index*."""
    document = dict(index.document)
    keys = dict(document.pop("key"))
    return f"db.getCollection({json.dumps(collection.name)}).createIndex({json.dumps(keys)}, {json.dumps(document)})"


def _is(index: IndexModel, there: Mapping[str, Any] | None) -> bool:
    """Return whether what is *there* under the name of *index* is the same."""
    if there is None or list(there["key"]) != _keys(index):
        return False
    return all(there.get(option) == index.document.get(option) for option in _OPTIONS)


def _name(index: IndexModel) -> str:
    return str(index.document["name"])


def _keys(index: IndexModel) -> list[tuple[str, Any]]:
    return list(index.document["key"].items())
