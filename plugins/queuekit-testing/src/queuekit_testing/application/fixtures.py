"""The fixture ``queue`` of pytest, for tests of an application."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import datetime
from typing import Any

import pytest

from queuekit.app import Queuekit
from queuekit_testing.application.queue import AppQueue, NeedsVirtualClockError
from queuekit_testing.application.swap import queue_of

__all__ = ["pytest_addoption", "pytest_configure", "pytest_runtest_call", "queue", "queue_app"]

_URL = "--queuekit-url"
_MARK = "queuekit"
_MOST_SHOWN = 5


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names another engine."""
    words = "run tests that use the fixture queue on the engine at URL, whose queues are emptied"
    parser.getgroup("queuekit").addoption(_URL, metavar="URL", default=None, help=words)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    words = "queuekit(leftovers=False, start=None): allow messages that are left; the time at which the test starts"
    config.addinivalue_line("markers", words)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that leaves messages, and skip one that moves a clock that cannot be moved."""
    try:
        result = yield
    except NeedsVirtualClockError as error:
        pytest.skip(str(error))
    found = getattr(item, "funcargs", {}).get("queue")
    if isinstance(found, AppQueue) and not _options(item).get("leftovers", False):
        left = found.leftovers
        if left:
            rows = [f"  {call}   due {call.due:%Y-%m-%d %H:%M:%S}" for call in left[:_MOST_SHOWN]]
            more = [f"  and {len(left) - _MOST_SHOWN} more"] if len(left) > _MOST_SHOWN else []
            fix = "Run them, or mark the test: @pytest.mark.queuekit(leftovers=True)"
            pytest.fail("\n".join([f"messages that are left: {len(left)}", *rows, *more, fix]), pytrace=False)
    return result


def _options(node: Any) -> dict[str, Any]:
    mark = node.get_closest_marker(_MARK)
    return {} if mark is None else dict(mark.kwargs)


@pytest.fixture
def queue_app() -> Queuekit:
    """Return the app under test, found as the commands find it; override this fixture to name another."""
    from queuekit.cli.session import Session

    return Session().app()[0]


@pytest.fixture
def queue(queue_app: Queuekit, request: pytest.FixtureRequest) -> Iterator[AppQueue]:
    """Put the app on an engine in memory and a clock that stands still, and return its queue."""
    start = _options(request.node).get("start")
    begun = int(start.timestamp()) if isinstance(start, datetime) else None
    with queue_of(queue_app, url=request.config.getoption(_URL, None), start=begun) as found:
        yield found
