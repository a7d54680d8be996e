"""Transactions of code under test: ``TestCase`` keeps one open, so what waits for a commit would wait forever.

Django marks the blocks that its test cases enter; by that, these functions tell them from those of an application.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["committing", "in_transaction"]

_logger = logging.getLogger("queuekit.django")


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Return whether code of the application has begun a transaction, rather than a test case around it."""
    return connection.in_atomic_block and not _in_test(connection)


@contextmanager
def committing() -> Iterator[None]:
    """Stand around the body of a task: what has waited for a commit in it runs at its end, if a test holds that up."""
    held = [one for one in connections.all(initialized_only=True) if one.in_atomic_block and _in_test(one)]
    before = [len(one.run_on_commit) for one in held]
    try:
        yield
    finally:
        for connection, count in zip(held, before, strict=True):
            while len(connection.run_on_commit) > count:
                entry: Any = connection.run_on_commit.pop(count)
                _run(entry[1], robust=entry[2])


def _run(call: Callable[[], object], *, robust: bool) -> None:
    try:
        call()
    except Exception:
        if not robust:
            raise
        _logger.exception("%r failed after the commit", call)


def _in_test(connection: BaseDatabaseWrapper) -> bool:
    blocks: list[Any] = connection.atomic_blocks
    return bool(blocks) and bool(blocks[-1]._from_testcase)  # noqa: SLF001 - as Django asks it of durable blocks
