"""Whole messages over a socket, read as they arrive."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from queuekit.worker.frames import FramedSocket
from support.waiting import PATIENCE


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a socket."""
    here, there = socket.socketpair()
    with here, there:
        yield here, there


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 5_000_000])
def test_returns_what_was_sent(ends: tuple[socket.socket, socket.socket], size: int) -> None:
    """Of any size, also where it does not fit into the buffers, and the next one as well."""
    here, there = FramedSocket(ends[0].fileno()), FramedSocket(ends[1].fileno())
    data = os.urandom(size)
    sender = threading.Thread(target=lambda: there.send(data))
    sender.start()

    assert here.receive() == data
    sender.join(PATIENCE)
    there.send(b"next")
    assert here.receive() == b"next"


def test_does_not_block_on_the_rest_of_a_message(ends: tuple[socket.socket, socket.socket]) -> None:
    """The length may come in parts, too."""
    whole = (5).to_bytes(8, "little") + b"hello"
    here = FramedSocket(ends[0].fileno())

    read = []
    for part in (whole[:3], whole[3:10], whole[10:]):
        ends[1].sendall(part)
        read.append(here.read())

    assert read == [[], [], [b"hello"]]


def test_reads_what_was_sent_together(ends: tuple[socket.socket, socket.socket]) -> None:
    """Whole messages at once, and the beginning of another one is kept."""
    here, there = FramedSocket(ends[0].fileno()), FramedSocket(ends[1].fileno())
    for message in (b"one", b"", b"three"):
        there.send(message)
    ends[1].sendall((4).to_bytes(8, "little") + b"fo")

    assert here.read() == [b"one", b"", b"three"]
    ends[1].sendall(b"ur")
    assert here.receive() == b"four"


@pytest.mark.parametrize("begun", [b"", b"\1\0\0"], ids=["nothing", "half"])
def test_tells_the_end(ends: tuple[socket.socket, socket.socket], begun: bytes) -> None:
    """Before a message, and in one."""
    ends[1].sendall(begun)
    ends[1].close()

    with pytest.raises(EOFError):
        FramedSocket(ends[0].fileno()).receive()
