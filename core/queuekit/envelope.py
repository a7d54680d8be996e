"""The envelope: an opaque body and the few fields that a broker needs; and the frame of bodies and records.

A body is a header (one line of JSON, readable without the payload's serializer), a newline, and the payload. The fields
that change between attempts (attempt, generation, hop) are outside the body, so that a retry or a replay moves the
original bytes.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from queuekit.errors import DecodeError
from queuekit.values import quick_frozen

__all__ = [
    "DEFAULT_PRIORITY",
    "MAX_HEADER_BYTES",
    "TURN",
    "Envelope",
    "Lane",
    "Unique",
    "join_frame",
    "options_in",
    "split_frame",
    "split_header",
]

DEFAULT_PRIORITY = 4
"""Priorities go from 0 (last) to 9 (first)."""
TURN = 1_000_000
"""The turn of a lane of weight 1, in the unit of :attr:`Lane.step`."""
MAX_HEADER_BYTES = 65_536
"""Longest header line that is read."""

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_decode = json.JSONDecoder().decode


@quick_frozen(kw_only=True)
class Unique:
    """A key that at most one live message may hold; the broker takes it in the same step as the send.

    Attributes:
        key: Unique across all queues of the broker, or within its queue if queues are spread over servers (Redis
            Cluster).
        until: Freed by the claim, by the final settlement (kept across retries), or only by time.
        ttl: Seconds after which the key is free in any case, so that no key leaks.
    """

    key: str
    until: Literal["start", "done", "ttl"] = "done"
    ttl: float = 86_400.0


@quick_frozen
class Lane:
    """The lane of a message: within a queue and priority, lanes take turns, in proportion to their weights.

    Attributes:
        key: Names the lane; empty for the common one, of messages without a key.
        weight: Starts per turn, from 0.01 to 1,000.
    """

    key: str = ""
    weight: float = 1.0

    @property
    def step(self) -> int:
        """What one of its messages takes, in millionths of a turn."""
        return round(TURN / self.weight)


@quick_frozen(kw_only=True)
class Envelope:
    """One message as a broker stores it. Sends are deduplicated by (id, generation, attempt, hop).

    Attributes:
        id: Id of the message, which a retry, a hop and a replay keep.
        queue: Queue that it is sent to.
        body: Header and payload, opaque to the broker: see :func:`join_frame`.
        priority: 0 to 9; 9 is delivered first.
        delay: Seconds from acceptance by the broker until it may be delivered, on the broker's clock.
        not_before: UTC epoch seconds before which it may not be delivered; the later of this and *delay* counts. If
            that is later than the broker's ``limits.max_delay`` from now, deliver it after ``max_delay``: core delays
            it again.
        expires: UTC epoch seconds after which its task is not started; core decides, by ``Delivery.claimed_at``.
        attempt: Attempts that ended in a retry before this one.
        generation: Times that the message was replayed from the dead letters.
        hop: Times that it was delayed again because its delay exceeds the broker's longest.
        unique: Key that it holds while it is live; ``None`` for none.
        lane: The lane in which it waits, which a retry, a hop and a replay keep; ``None``, for brokers without
            ``lanes`` and apps without ``fair_by``, goes before all lanes.
    """

    id: str
    queue: str
    body: bytes
    priority: int = DEFAULT_PRIORITY
    delay: float = 0.0
    not_before: float | None = None
    expires: float | None = None
    attempt: int = 0
    generation: int = 0
    hop: int = 0
    unique: Unique | None = None
    lane: Lane | None = None


def join_frame(header: dict[str, Any], payload: bytes) -> bytes:
    """Return a body: *header* as one line of JSON, and *payload*."""
    # surrogatepass, since headers may hold lone surrogates, which strict UTF-8 rejects.
    return _encode(header).encode("utf-8", "surrogatepass") + b"\n" + payload


def split_frame(body: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the payload of an untrusted body.

    Raises:
        DecodeError: It does not begin with a JSON object on one line.
    """
    header, start = split_header(body)
    return header, body[start:]


def split_header(body: bytes) -> tuple[dict[str, Any], int]:
    """Return the header of an untrusted body, and the offset of its payload.

    Raises:
        DecodeError: It does not begin with a JSON object on one line.
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


def options_in(body: bytes) -> dict[str, Any]:
    """Return the options for the service that the header of an untrusted body carries; empty if it carries none."""
    end = body.find(b"\n", 0, MAX_HEADER_BYTES)
    if body.find(b'"broker":', 0, max(end, 0)) < 0:
        return {}
    try:
        given = split_header(body)[0].get("broker")
    except DecodeError:
        return {}
    return given if type(given) is dict else {}
