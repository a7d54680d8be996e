"""Limit each request to the time that its caller has left; botocore has one timeout per client."""

from __future__ import annotations

from typing import Any

from queuekit.timelimit import end_of_time, time_left

__all__ = ["limit"]

_SHORTEST = 0.001
"""Least timeout in seconds: 0 would make the socket non-blocking, which raises other errors."""


def limit(client: Any, *, connect: float, read: float) -> None:
    """Limit all requests of *client* to the time of their callers.

    This does not limit name resolution, which cannot be interrupted, nor the library's search for credentials.

    Args:
        client: A client of botocore.
        connect: Most seconds to open a connection.
        read: Most seconds to wait for a reply.
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

    pools = client._endpoint.http_session._pool_classes_by_scheme  # noqa: SLF001 - botocore has no public API for it
    for scheme, kind in list(pools.items()):
        pools[scheme] = limited(kind)
