"""A server that takes connections and says nothing, and URLs of engines on it that would wait for ten minutes."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["SILENT", "silent_port"]

SILENT = {
    "redis": "redis://127.0.0.1:{port}/0?timeout=600&connect_timeout=600",
    "redis-signs-in": "redis://user:word@127.0.0.1:{port}/0?timeout=600&connect_timeout=600",
    "redis-tls": "rediss://127.0.0.1:{port}/0?timeout=600&connect_timeout=600",
    "redis-sentinel": "redis+sentinel://127.0.0.1:{port},127.0.0.1:{port}/service/0?timeout=600&connect_timeout=600",
    "redis-cluster": "redis+cluster://127.0.0.1:{port},localhost:{port}?timeout=600&connect_timeout=600",
    "mongo": "mongodb://127.0.0.1:{port}/db?timeout=600",
    "mongo-tls": "mongodb://127.0.0.1:{port}/db?timeout=600&tls=true",
    "mongo-set": "mongodb://127.0.0.1:{port},localhost:{port}/db?timeout=600&replicaSet=rs",
    "sqs": "sqs+http://127.0.0.1:{port}/name?timeout=600&connect_timeout=600",
}
"""By name."""


@contextmanager
def silent_port() -> Iterator[int]:
    """Yield the port of a server that accepts, and never reads nor answers: the system does so by itself."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield listener.getsockname()[1]
