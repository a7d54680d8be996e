"""What a broker keeps: an opaque body and the few fields that it must know, and the frame of bodies and records.

A body is one line of JSON, readable without the payload's serializer, a newline, and the payload. With the JSON
serializer all of it is text. What changes from attempt to attempt (attempt, generation, hop) stands beside the body,
so that a retry or a replay moves the very bytes that were sent.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from queuekit.errors import DecodeError
from queuekit.values import quick_frozen

__all__ = ["DEFAULT_PRIORITY", "MAX_HEADER_BYTES", "Envelope", "Unique", "join_frame", "split_frame", "split_header"]

DEFAULT_PRIORITY = 4
"""Priorities go from 0 (last) to 9 (first)."""
MAX_HEADER_BYTES = 65_536
"""Longest header line that is read."""

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_decode = json.JSONDecoder().decode


@quick_frozen(kw_only=True)
class Unique:
    """A key that at most one live message may hold; the broker takes it in the same step as the send."""

    key: str
    """Taken across all queues of the broker; where these are on several servers (a Redis Cluster), within its queue."""
    until: Literal["start", "done", "ttl"] = "done"
    """Freed by the claim, by the final settle (kept across retries), or only by time."""
    ttl: float = 86_400.0
    """Seconds after which the key is free whatever happened, so that nothing leaks."""


@quick_frozen(kw_only=True)
class Envelope:
    """One message as a broker sees it. A send is deduplicated by (id, generation, attempt, hop)."""

    id: str
    queue: str
    body: bytes
    priority: int = DEFAULT_PRIORITY
    """0 to 9; 9 is handed out first."""
    delay: float = 0.0
    """Seconds from the moment the broker accepts it until it may be handed out, on the broker's clock."""
    not_before: float | None = None
    """UTC epoch seconds before which it may not be handed out; the later of this and *delay* counts."""
    expires: float | None = None
    """UTC epoch seconds after which its task is not started any more; core decides, with ``Delivery.claimed_at``."""
    attempt: int = 0
    """Attempts that ended in a retry before this one."""
    generation: int = 0
    """Times that the message was replayed from the dead letters."""
    hop: int = 0
    """Times that it was delayed again because the broker cannot delay as long as asked."""
    unique: Unique | None = None


def join_frame(header: dict[str, Any], payload: bytes) -> bytes:
    """Return a body: *header* as one line of JSON, and *payload*."""
    return _encode(header).encode("utf-8", "surrogatepass") + b"\n" + payload


def split_frame(body: bytes) -> tuple[dict[str, Any], bytes]:
    """Return header and payload of a body that may hold anything.

    Raises:
        DecodeError: It does not begin with one line of JSON that is an object.
    """
    header, start = split_header(body)
    return header, body[start:]


def split_header(body: bytes) -> tuple[dict[str, Any], int]:
    """Return the header of a body that may hold anything, and where its payload begins.

    Raises:
        DecodeError: It does not begin with one line of JSON that is an object.
    """
    end = body.find(b"\n", 0, MAX_HEADER_BYTES)
    if end < 0:
        raise DecodeError("no header line")
    try:
        header = _decode(body[:end].decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise DecodeError("the header is not JSON") from error
    if type(header) is not dict:
        raise DecodeError("the header is not an object")
    return header, end + 1
