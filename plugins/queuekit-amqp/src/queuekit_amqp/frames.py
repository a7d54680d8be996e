"""The frames of AMQP 0-9-1: those of single messages written and read here, quickly; other methods by pika's tables."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import attrs
from pika import amqp_object, data, spec
from pika.frame import Method as MethodFrame

from queuekit.errors import UnavailableError

__all__ = [
    "BODY",
    "CONTENT",
    "HEADER",
    "HEARTBEAT",
    "HEARTBEAT_FRAME",
    "METHOD",
    "PROTOCOL",
    "Content",
    "Frames",
    "ack",
    "decode",
    "method",
    "nack",
    "publish",
    "short",
]

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
PROTOCOL = b"AMQP\x00\x00\x09\x01"
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
_END = b"\xce"
_REQUEUE = 2
_MANDATORY = 1
_FRAME = struct.Struct(">BHI")
_SETTLE = struct.Struct(">BHIIQBB")
_SETTLE_SIZE = 13
_HEADER = struct.Struct(">HHQ")
_LARGEST = 64_000_000
"""Most bytes of a frame that are taken for one."""
_METHODS: dict[int, Any] = spec.methods
CONTENT = frozenset({spec.Basic.Deliver.INDEX, spec.Basic.GetOk.INDEX, spec.Basic.Return.INDEX})
"""Methods that a header and a body follow."""


@attrs.define
class Content:
    """A message that the server has sent, with the method that came before it."""

    method: Any
    size: int = 0
    properties: bytes = b""
    """Flags and properties, as they came."""
    parts: list[bytes] = attrs.field(factory=list)
    missing: int = 0

    @property
    def body(self) -> bytes:
        """The whole body."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    def start(self, payload: bytes) -> None:
        """Read the header frame."""
        _, _, self.size = _HEADER.unpack_from(payload)
        self.missing = self.size
        self.properties = payload[_HEADER.size :]

    def add(self, payload: bytes) -> None:
        """Read a body frame."""
        self.parts.append(payload)
        self.missing -= len(payload)


class Frames:
    """Cuts what a server sends into frames."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, received: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield kind, channel and payload of each frame that is whole.

        Raises:
            UnavailableError: This is not AMQP.
        """
        buffer = self._buffer + received if self._buffer else received
        start, end, unpack = 0, len(buffer), _FRAME.unpack_from
        while end - start >= _FRAME.size + 1:
            kind, channel, size = unpack(buffer, start)
            stop = start + _FRAME.size + size
            if size > _LARGEST or kind not in {METHOD, HEADER, BODY, HEARTBEAT}:
                raise UnavailableError("the server does not speak AMQP 0-9-1")
            if stop >= end:
                break
            yield kind, channel, buffer[start + _FRAME.size : stop]
            start = stop + 1
        self._buffer = buffer[start:]


def decode(payload: bytes) -> Any:
    """Return the method in the payload of a method frame."""
    index = int.from_bytes(payload[:4], "big")
    kind = _METHODS.get(index)
    if kind is None:
        raise UnavailableError(f"the server calls a method that AMQP 0-9-1 does not have: {index:#x}")
    return kind().decode(payload, 4)


def method(channel: int, called: amqp_object.Method) -> bytes:
    """Return the frame that calls a method."""
    return bytes(MethodFrame(channel, called).marshal())


def ack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """Return the frame that acknowledges a message, or *multiple*: all up to it."""
    return _SETTLE.pack(METHOD, channel, _SETTLE_SIZE, spec.Basic.Ack.INDEX, tag, 1 if multiple else 0, _END[0])


def nack(channel: int, tag: int) -> bytes:
    """Return the frame that puts a message back."""
    return _SETTLE.pack(METHOD, channel, _SETTLE_SIZE, spec.Basic.Nack.INDEX, tag, _REQUEUE, _END[0])


def short(text: str) -> bytes:
    """Return *text* as a short string."""
    raw = text.encode("utf-8", "surrogatepass")
    return bytes((len(raw),)) + raw


def publish(channel: int, target: bytes, properties: bytes, body: bytes, *, frame_max: int) -> list[bytes]:
    """Return the frames that publish a message, in pieces to join.

    Args:
        channel: Number of the channel.
        target: Exchange and routing key, each as a short string.
        properties: Flags and properties.
        body: The body.
        frame_max: Most bytes of a frame.
    """
    call = _FRAME.pack(METHOD, channel, 7 + len(target))
    head = _FRAME.pack(HEADER, channel, _HEADER.size + len(properties))
    size = len(body)
    pieces = [
        call,
        b"\x00\x3c\x00\x28\x00\x00",
        target,
        b"\x01\xce",
        head,
        _HEADER.pack(spec.Basic.INDEX, 0, size),
        properties,
        _END,
    ]
    room = frame_max - _FRAME.size - 1
    for start in range(0, size, room):
        part = body[start : start + room]
        pieces += (_FRAME.pack(BODY, channel, len(part)), part, _END)
    return pieces


def table(raw: bytes) -> dict[str, Any]:
    """Return a table, which may be foreign; empty if it cannot be read."""
    try:
        found: dict[Any, Any] = data.decode_table(raw, 0)[0]
    except Exception:  # noqa: BLE001 - pika raises many kinds for malformed tables
        return {}
    return {str(name): value for name, value in found.items()}
