"""The engines that worker processes can share, and the fixture that gives a test a fleet of workers on each."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fault_tasks import app
from support.fleet import Fleet
from support.waiting import unhurried

__all__ = ["AWS", "ENGINES", "fleet"]


def _sqlite(folder: Path) -> dict[str, Any]:
    return {"broker": unhurried(f"sqlite:///{folder}/queue.db", "busy_timeout")}


def _redis(folder: Path) -> dict[str, Any]:
    from support.redis_servers import shared_url

    url = unhurried(shared_url("valkey"), "timeout", "connect_timeout")
    return {"broker": f"{url}&key_prefix={folder.name[:40]}-{os.urandom(4).hex()}"}


def _mongo(folder: Path) -> dict[str, Any]:
    pytest.importorskip("pymongo")
    from support.mongod import shared_url

    return {"broker": unhurried(shared_url(f"{folder.name[:40]}-{os.urandom(4).hex()}"), "timeout")}


def _aws(folder: Path) -> dict[str, Any]:
    from support.aws_servers import shared_ministack

    server, mark = shared_ministack(), f"{folder.name[:20]}-{os.urandom(4).hex()}"
    return {"broker": server.sqs(mark), "backend": server.dynamodb(mark)}


ENGINES: dict[str, Callable[[Path], dict[str, Any]]] = {"sqlite": _sqlite, "redis": _redis, "mongo": _mongo}
"""How a test gets URLs of its own, as arguments of :class:`Fleet`, given a folder; a plugin adds a line."""
AWS: dict[str, Callable[[Path], dict[str, Any]]] = {"aws": _aws}
"""Likewise, on SQS and DynamoDB, which report no single messages and count approximately."""

_EACH_TIME = ("sqlite",)
"""Engines of the everyday run; the others have fault tests of their own there, and all of these in `tox -e torture`."""


@pytest.fixture(
    params=[pytest.param(name, marks=() if name in _EACH_TIME else pytest.mark.torture, id=name) for name in ENGINES]
)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """Workers that are all gone when the test is over."""
    made = Fleet(tmp_path, app, **ENGINES[request.param](tmp_path))
    yield made
    made.close()
    if request.node.get_closest_marker("torture") is None:
        print(made.logs())  # noqa: T201 - pytest shows it where a test has failed
