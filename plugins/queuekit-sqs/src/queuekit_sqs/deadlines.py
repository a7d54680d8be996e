"""Bounds each request by the time that its caller has left, while a client has one timeout for all."""

from __future__ import annotations

from typing import Any

from queuekit.timelimit import end_of_time, time_left

__all__ = ["limit"]

_SHORTEST = 0.001
"""Seconds: the library takes 0 for not waiting at all, which is another kind of error."""


def limit(client: Any, *, connect: float, read: float) -> None:
    """Have all requests of *client* end in time.

    Name resolution is excepted, which nothing can cut, and so is what the library does to find credentials.

    Args:
        client: One of botocore's.
        connect: Seconds to open a connection in, if the caller has more.
        read: Likewise for an answer.
    """
    from urllib3.util import Timeout

    def limited(kind: Any) -> Any:
        class Limited(kind):  # type: ignore[misc]
            """A pool of connections to one host."""

            def urlopen(self, *args: Any, **options: Any) -> Any:
                """Make a request."""
                if end_of_time() is not None:
                    left = max(_SHORTEST, time_left(connect + read))
                    options["timeout"] = Timeout(connect=min(connect, left), read=min(read, left), total=left)
                return super().urlopen(*args, **options)

        return Limited

    pools = client._endpoint.http_session._pool_classes_by_scheme  # noqa: SLF001 - there is no public way
    for scheme, kind in list(pools.items()):
        pools[scheme] = limited(kind)
