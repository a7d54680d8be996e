"""Ask a running worker for its health. Imports nothing but the standard library: ``queuekit health`` loads it alone."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence

__all__ = ["PROBES", "ask", "parse_address", "quick"]

PROBES = {"live": "/livez", "ready": "/readyz", "startup": "/startupz"}
"""Paths of the probes, by name."""
VARIABLE = "QUEUEKIT_WORKER__HEALTH_PORT"
_LOOPBACK = "127.0.0.1"
_HIGHEST = 65_535
_PATIENCE = 3.0
_MOST_BYTES = 65_536
_OK = 200


def parse_address(text: str) -> str | tuple[str, int]:
    """Return the path of a Unix socket, or host and port.

    Args:
        text: ``8081`` (on 127.0.0.1), ``0.0.0.0:8081``, ``[::1]:8081``, or a path with a slash.

    Raises:
        ValueError: It is none of these.
    """
    text = text.strip()
    if "/" in text:
        return text
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        port = ""
    if not (port.isascii() and port.isdecimal() and int(port) <= _HIGHEST) or (":" in text and not host):
        raise ValueError(f"{text[:80]!r} is not a port, HOST:PORT or the path of a socket")
    return (host or _LOOPBACK, int(port))


def ask(address: str, probe: str, *, timeout: float = _PATIENCE) -> tuple[bool, str]:
    """Return whether the worker at *address* passes *probe*, and what it says.

    Args:
        address: As for :func:`parse_address`.
        probe: A key of :data:`PROBES`.
        timeout: Seconds to wait for each part of the answer.

    Raises:
        ValueError: The address is not valid.
    """
    place = parse_address(address)
    try:
        answer = _exchange(place, f"GET {PROBES[probe]} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode(), timeout)
    except OSError as error:
        return False, f"no answer from {address}: {error.strerror or error}"
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ")
    passed = len(status) > 1 and status[0].startswith(b"HTTP/") and status[1] == b"%d" % _OK
    text = body.decode("utf-8", "replace").strip() or f"what answers at {address} is not a worker"
    return passed, "".join(one if one.isprintable() or one == "\n" else "?" for one in text)


def _exchange(place: str | tuple[str, int], request: bytes, timeout: float) -> bytes:
    if isinstance(place, str):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        with connection:
            connection.connect(place)
            return _read(connection, request)
    host = {"0.0.0.0": _LOOPBACK, "::": "::1"}.get(place[0], place[0])  # noqa: S104 - the address to ask, not to bind
    with socket.create_connection((host, place[1]), timeout) as connection:
        return _read(connection, request)


def _read(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    parts: list[bytes] = []
    while len(parts) < _MOST_BYTES and (part := connection.recv(4_096)):
        parts.append(part)
    return b"".join(parts)[:_MOST_BYTES]


def quick(arguments: Sequence[str]) -> int | None:
    """Print the answer and return the exit code; ``None`` if the whole command line must read the arguments."""
    address, probe, rest = os.environ.get(VARIABLE, ""), "live", [*arguments]
    while rest:
        name, _, value = rest.pop(0).partition("=")
        if name in PROBES and not value:
            probe = name
        elif name == "--port" and (value or rest):
            address = value or rest.pop(0)
        else:
            return None
    try:
        passed, text = ask(address, probe)
    except ValueError:
        return None
    print(text, file=sys.stdout if passed else sys.stderr)
    return 0 if passed else 1
