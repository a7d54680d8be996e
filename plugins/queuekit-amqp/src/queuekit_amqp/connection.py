"""One connection to a server of RabbitMQ: a thread of its own reads it; any thread may write."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from pika import spec

from queuekit.errors import UnavailableError
from queuekit.timelimit import time_left
from queuekit_amqp.channel import Channel
from queuekit_amqp.frames import HEARTBEAT, HEARTBEAT_FRAME, METHOD, PROTOCOL, Frames, decode, method
from queuekit_amqp.options import AmqpOptions
from queuekit_amqp.urls import Target

__all__ = ["Connection", "connect"]

_READ = 262_144
_WRITE = 262_144
_LONGEST_GOODBYE = 1.0
"""Most seconds for the farewell of a connection."""
_UNTRUSTED = "Name the file of its CA with ca_file, and use the host name of the certificate in the URL"
_ACCESS_REFUSED, _NOT_ALLOWED = 403, 530
_CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}


@attrs.define
class _Tuned:
    """What client and server have agreed on."""

    channel_max: int = 2_047
    frame_max: int = 131_072
    heartbeat: float = 30.0


class Connection:
    """An open connection.

    Args:
        sock: Connected to a server, with the handshake of TLS done.
        where: Names the server in errors.
        hide: Removes secrets from a text.
    """

    def __init__(self, sock: socket.socket, *, where: str, hide: Callable[[str], str]) -> None:
        self._sock = sock
        self._where = where
        self._hide = hide
        self._tuned = _Tuned()
        self._frames = Frames()
        self._writing = threading.Lock()
        # OpenSSL allows one call at a time; a plain socket needs no lock.
        self._using: Any = threading.Lock() if isinstance(sock, ssl.SSLSocket) else contextlib.nullcontext()
        self._opening = threading.Lock()
        self._channels: dict[int, Channel] = {}
        self._next_channel = 1
        self._written = time.monotonic()
        self._closed = threading.Event()
        self._last = 0
        self.blocked = ""
        """Why the server takes no messages at the moment; empty if it does."""
        self.error: UnavailableError | None = None
        """Why the connection is broken."""
        self._thread = threading.Thread(target=self._read_all, name="queuekit-amqp", daemon=True)

    # -- the beginning

    def greet(self, target: Target, options: AmqpOptions, deadline: float) -> None:
        """Open the connection, and start the thread that reads.

        Raises:
            UnavailableError: The server refuses it, or does not answer.
        """
        self._write(PROTOCOL, deadline)
        self._expect(spec.Connection.Start, deadline)
        answer = spec.Connection.StartOk(
            client_properties={"product": "queuekit", "platform": "Python", "capabilities": dict(_CAPABILITIES)},
            mechanism="PLAIN",
            response=f"\0{target.username}\0{target.password}",
            locale="en_US",
        )
        self._write(method(0, answer), deadline)
        tune = self._expect(spec.Connection.Tune, deadline)
        offered = float(tune.heartbeat or options.heartbeat)
        self._tuned = _Tuned(
            channel_max=min(tune.channel_max or 2_047, 2_047),
            frame_max=min(tune.frame_max or 131_072, 131_072),
            heartbeat=float(max(1, int(min(options.heartbeat, offered)))),
        )
        agreed = spec.Connection.TuneOk(
            channel_max=self._tuned.channel_max, frame_max=self._tuned.frame_max, heartbeat=int(self._tuned.heartbeat)
        )
        opened = spec.Connection.Open(virtual_host=target.vhost)
        self._write(method(0, agreed) + method(0, opened), deadline)
        self._expect(spec.Connection.OpenOk, deadline)
        self._thread.start()

    def _expect(self, kind: Any, deadline: float) -> Any:
        """Return the next method, which is of *kind*."""
        while True:
            for what, _, payload in self._frames.feed(self._receive(deadline)):
                if what != METHOD:
                    continue
                called = decode(payload)
                if isinstance(called, spec.Connection.Close):
                    raise self._refused(called)
                if isinstance(called, kind):
                    return called
                raise UnavailableError(f"{self._where} answers with {type(called).__name__}, not {kind.__name__}")

    def _receive(self, deadline: float) -> bytes:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise UnavailableError(f"{self._where} does not answer")
            received = self._read(left)
            if received is not None:
                if not received:
                    raise UnavailableError(f"{self._where} closes the connection")
                return received

    def _refused(self, called: Any) -> UnavailableError:
        code, text = int(called.reply_code), self._hide(str(called.reply_text))
        passing = code not in {_ACCESS_REFUSED, _NOT_ALLOWED}
        return UnavailableError(f"{self._where} closes the connection: {text}", passing=passing)

    # -- channels

    @property
    def frame_max(self) -> int:
        """Most bytes of a frame."""
        return self._tuned.frame_max

    def open_channel(self, *, timeout: float) -> Channel:
        """Return a new channel."""
        with self._opening:
            self.raise_if_broken()
            number = self._free_number()
            channel = self._channels[number] = Channel(self, number)
        try:
            channel.call(spec.Channel.Open(), timeout=timeout)
        except BaseException:
            self._channels.pop(number, None)
            raise
        return channel

    def _free_number(self) -> int:
        most = self._tuned.channel_max
        for _ in range(most):
            number, self._next_channel = self._next_channel, self._next_channel % most + 1
            if number not in self._channels:
                return number
        raise UnavailableError(f"{self._where} allows no more than {most} channels")

    def forget(self, channel: Channel) -> None:
        """Let the number of a closed channel be used again."""
        self._channels.pop(channel.number, None)

    def raise_if_broken(self) -> None:
        """Raise the error that has broken the connection, if one has.

        Raises:
            UnavailableError: The connection is broken.
        """
        if self.error is not None:
            raise UnavailableError(self.error.what, passing=self.error.passing)

    # -- writing

    def write(self, data: bytes, *, timeout: float) -> None:
        """Send *data*, which consists of whole frames.

        Raises:
            UnavailableError: The connection is broken, or takes nothing for *timeout* seconds.
        """
        self.raise_if_broken()
        try:
            self._write(data, time.monotonic() + timeout)
        except UnavailableError as error:
            self.fail(error)
            raise

    def _write(self, data: bytes, deadline: float) -> None:
        with self._writing:
            view = memoryview(data)
            while view:
                self._write_part(view, deadline)
                view = view[self._last :]
            self._written = time.monotonic()

    def _write_part(self, view: memoryview, deadline: float) -> None:
        while True:
            try:
                with self._using:
                    self._last = self._sock.send(view[:_WRITE])
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT, deadline)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, deadline)
            except (OSError, ValueError) as error:
                raise UnavailableError(f"{self._where}: the connection is broken ({type(error).__name__})") from error
            else:
                return

    def _wait(self, event: int, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise UnavailableError(f"{self._where} takes no data")
        self._poll(event, min(left, 1.0))

    def _poll(self, event: int, seconds: float) -> bool:
        poller = select.poll()
        try:
            poller.register(self._sock, event)
            return bool(poller.poll(seconds * 1_000))
        except (OSError, ValueError) as error:
            raise UnavailableError(f"{self._where}: the connection is closed") from error

    # -- reading

    def _read(self, seconds: float) -> bytes | None:
        """Return what comes within *seconds*: empty at the end of the connection, ``None`` if nothing comes."""
        if not self._pending() and not self._poll(select.POLLIN, seconds):
            return None
        try:
            with self._using:
                return self._sock.recv(_READ)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except (OSError, ValueError):
            return b""

    def _pending(self) -> bool:
        """Return whether TLS has read more than it has returned."""
        if isinstance(self._sock, ssl.SSLSocket):
            with self._using, contextlib.suppress(OSError, ValueError):
                return self._sock.pending() > 0
        return False

    def _read_all(self) -> None:
        """Read until the connection ends, in a thread of its own."""
        last_read, pause = time.monotonic(), self._tuned.heartbeat / 4
        try:
            while self.error is None:
                received = self._read(pause)
                now = time.monotonic()
                if received:
                    last_read = now
                    self._take(received)
                elif received is not None:
                    raise UnavailableError(f"{self._where} closes the connection")  # noqa: TRY301 - ends the loop
                elif now - last_read > 2 * self._tuned.heartbeat:
                    raise UnavailableError(f"{self._where} gives no sign of life")  # noqa: TRY301 - ends the loop
                if now - self._written > self._tuned.heartbeat / 2:
                    self._beat()
        except UnavailableError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001 - whatever a server sends must not end the thread silently
            self.fail(UnavailableError(f"{self._where} sends what cannot be read ({type(error).__name__})"))
        finally:
            self._closed.set()
            self._sock.close()

    def _beat(self) -> None:
        # A thread that writes at this moment is a sign of life as well.
        if self._writing.acquire(blocking=False):
            self._writing.release()
            self._write(HEARTBEAT_FRAME, time.monotonic() + self._tuned.heartbeat)

    def _take(self, received: bytes) -> None:
        channels = self._channels
        for kind, number, payload in self._frames.feed(received):
            if number == 0:
                if kind != HEARTBEAT:
                    self._control(decode(payload))
                continue
            channel = channels.get(number)
            if channel is not None:
                channel.take(kind, payload)
        for channel in list(channels.values()):
            channel.flush()

    def _control(self, called: Any) -> None:
        """Handle a method of the connection itself."""
        if isinstance(called, spec.Connection.Close):
            error = self._refused(called)
            with contextlib.suppress(UnavailableError):
                self._write(method(0, spec.Connection.CloseOk()), time.monotonic() + _LONGEST_GOODBYE)
            raise error
        if isinstance(called, spec.Connection.Blocked):
            self.blocked = self._hide(str(called.reason)) or "it says not why"
        elif isinstance(called, spec.Connection.Unblocked):
            self.blocked = ""
        elif isinstance(called, spec.Connection.CloseOk):
            raise UnavailableError(f"{self._where}: the connection is closed")

    # -- the end

    def fail(self, error: UnavailableError) -> None:
        """End the connection because of *error*; its channels end with it."""
        with self._opening:
            if self.error is not None:
                return
            self.error = error
            channels = list(self._channels.values())
        for channel in channels:
            channel.fail(error)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take leave of the server, and end the thread."""
        if self.error is None:
            goodbye = spec.Connection.Close(reply_code=200, reply_text="", class_id=0, method_id=0)
            with contextlib.suppress(UnavailableError):
                self._write(method(0, goodbye), time.monotonic() + _LONGEST_GOODBYE)
                self._closed.wait(_LONGEST_GOODBYE)
        self.fail(UnavailableError(f"{self._where}: the connection is closed"))
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(_LONGEST_GOODBYE)
        self._sock.close()

    def abandon(self) -> None:
        """Close the copy of the socket that a fork has; the connection stays the parent's."""
        with contextlib.suppress(OSError):
            socket.socket(fileno=self._sock.detach()).close()


def connect(target: Target, options: AmqpOptions, *, hide: Callable[[str], str]) -> Connection:
    """Return a connection to the first server that takes one.

    Raises:
        UnavailableError: None does; the error of the first one.
    """
    errors: list[UnavailableError] = []
    for host, port in target.servers:
        try:
            return _connect((host, port), target, options, hide)
        except UnavailableError as error:
            errors.append(error)
    raise _most_telling(errors)


def _most_telling(errors: Sequence[UnavailableError]) -> UnavailableError:
    return next((error for error in errors if not error.passing), errors[0])


def _connect(server: tuple[str, int], target: Target, options: AmqpOptions, hide: Callable[[str], str]) -> Connection:
    where = f"RabbitMQ at {server[0]}:{server[1]}"
    patience = max(0.001, time_left(options.connect_timeout))
    deadline = time.monotonic() + patience
    try:
        sock: socket.socket = socket.create_connection(server, timeout=patience)
    except (OSError, UnicodeError) as error:
        raise UnavailableError(f"{where} cannot be reached: {_reason(error)}") from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.tls:
            sock = options.context().wrap_socket(sock, server_hostname=server[0])
        sock.settimeout(0)
        connection = Connection(sock, where=where, hide=hide)
        connection.greet(target, options, deadline)
    except BaseException as error:
        sock.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            what = f"{where} presents a certificate that is not trusted: {_reason(error)}"
            raise UnavailableError(what, fix=_UNTRUSTED, passing=False) from error
        if isinstance(error, ssl.SSLError):
            raise UnavailableError(f"{where}: {_reason(error)}") from error
        if isinstance(error, OSError) and not isinstance(error, UnavailableError):
            raise UnavailableError(f"{where} cannot be reached: {_reason(error)}") from error
        raise
    return connection


def _reason(error: Exception) -> str:
    return getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error) or type(error).__name__
