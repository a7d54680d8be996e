"""One channel: calls with their answers, pushed messages, and confirms of what was published."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from pika import spec

from queuekit.errors import UnavailableError
from queuekit_amqp.frames import BODY, CONTENT, HEADER, Content, ack, decode, method, nack

if TYPE_CHECKING:
    from queuekit_amqp.connection import Connection

__all__ = ["Channel", "ChannelClosedError"]

_ANSWERS: tuple[Any, ...] = (
    spec.Channel.OpenOk,
    spec.Channel.CloseOk,
    spec.Exchange.DeclareOk,
    spec.Exchange.BindOk,
    spec.Queue.DeclareOk,
    spec.Queue.BindOk,
    spec.Queue.PurgeOk,
    spec.Queue.DeleteOk,
    spec.Basic.QosOk,
    spec.Basic.ConsumeOk,
    spec.Basic.CancelOk,
    spec.Basic.GetEmpty,
    spec.Confirm.SelectOk,
)
_CONFIRMS: tuple[Any, ...] = (spec.Basic.Ack, spec.Basic.Nack)


class ChannelClosedError(UnavailableError):
    """The server has closed a channel, because it refuses a call."""

    def __init__(self, what: str, *, reply: int, text: str) -> None:
        super().__init__(what)
        self.reply = reply
        """Reply code, e.g. 404 for what does not exist."""
        self.text = text


class Channel:
    """A channel of a connection; made by :meth:`Connection.open_channel`."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.changed = threading.Condition()
        """Notified when an answer, a pushed message or the end has come."""
        self.error: UnavailableError | None = None
        """Why the channel is closed."""
        self.pushed: Callable[[Content], None] = _ignore
        """Called with each pushed message."""
        self.confirmed: Callable[[Any], None] = _ignore
        """Called with each confirm."""
        self.returned: Callable[[Content], None] = _ignore
        """Called with each message that has no queue to go to."""
        self.ended: Callable[[Channel], None] = _ignore
        """Called once when the channel has ended."""
        self.holds = False
        """Whether it is for deliveries alone."""
        self.cancelled = False
        """Whether the server has ended a consumer, because its queue is deleted or has moved."""
        self.wakes = 0
        self._calling = threading.Lock()
        self._tags: dict[int, None] = {}
        """Messages that were handed out here and not settled, in order."""
        self._settling, self._counting = threading.Lock(), threading.Lock()
        self._answers: deque[Any] = deque()
        self._content: Content | None = None
        self._news = False

    # -- calling

    def call(self, *methods: Any, timeout: float) -> list[Any]:
        """Call *methods* in one go, and return their answers in order.

        Raises:
            ChannelClosedError: The server refuses one of them.
            UnavailableError: The connection is broken, or the server does not answer in time.
        """
        with self._calling:
            return self._call(b"".join(method(self.number, each) for each in methods), len(methods), timeout)

    def _call(self, data: bytes, count: int, timeout: float) -> list[Any]:
        deadline = time.monotonic() + timeout
        self.raise_if_closed()
        self._answers.clear()
        self.connection.write(data, timeout=timeout)
        with self.changed:
            while len(self._answers) < count:
                self.raise_if_closed()
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self.changed.wait(left)
            answers = list(self._answers)
        if len(answers) < count:
            error = UnavailableError("RabbitMQ does not answer")
            self.connection.fail(error)  # what it answers later would be taken for the answer to the next call
            raise error
        return answers

    def raise_if_closed(self) -> None:
        """Raise the error that has ended the channel, if one has.

        Raises:
            UnavailableError: The channel is closed.
        """
        if self.error is not None:
            raise self.error

    def settle(self, done: Collection[int], back: Collection[int], *, timeout: float) -> None:
        """Acknowledge the messages with the tags *done*, and put those of *back* back.

        One acknowledgement is enough for the oldest messages if all of them are done: it costs RabbitMQ as much as one
        for a single message.
        """
        # What is acknowledged at once must not contain what another thread is about to put back.
        with self._settling:
            last = self._take_tags(done, back)
            frames = [ack(self.number, last, multiple=True)] if last else []
            frames += [ack(self.number, tag) for tag in done if tag > last]
            frames += [nack(self.number, tag) for tag in back]
            self.connection.write(b"".join(frames), timeout=timeout)

    def _take_tags(self, done: Collection[int], back: Collection[int]) -> int:
        """Forget messages; return the last tag up to which all were *done*, 0 if the oldest was not."""
        last, wanted = 0, set(done)
        with self._counting:
            for tag in self._tags:
                if tag not in wanted:
                    break
                last = tag
            for tag in (*done, *back):
                self._tags.pop(tag, None)
        return last

    def close(self, *, timeout: float) -> None:
        """Close the channel, if it is open."""
        if self.error is None:
            self.call(spec.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0), timeout=timeout)
        self.fail(UnavailableError("the channel is closed"))
        self.connection.forget(self)

    # -- in the thread that reads

    def take(self, kind: int, payload: bytes) -> None:
        """Handle a frame."""
        content = self._content
        if kind == BODY:
            if content is not None:
                content.add(payload)
        elif kind == HEADER:
            if content is not None:
                content.start(payload)
        else:
            called = decode(payload)
            if called.INDEX in CONTENT:
                self._content = Content(called)
            else:
                self._method(called)
            return
        if content is not None and content.missing <= 0:
            self._content = None
            self._whole(content)

    def _whole(self, content: Content) -> None:
        if not isinstance(content.method, spec.Basic.Return):
            with self._counting:
                self._tags[content.method.delivery_tag] = None
        if isinstance(content.method, spec.Basic.Deliver):
            self.pushed(content)
        elif isinstance(content.method, spec.Basic.Return):
            self.returned(content)
        else:
            self._answers.append(content)
        self._news = True

    def _method(self, called: Any) -> None:
        self._news = True
        if isinstance(called, _CONFIRMS):
            self.confirmed(called)
        elif isinstance(called, _ANSWERS):
            self._answers.append(called)
        elif isinstance(called, spec.Channel.Close):
            self.connection.write(method(self.number, spec.Channel.CloseOk()), timeout=1.0)
            code, text = int(called.reply_code), str(called.reply_text)
            self.connection.forget(self)
            self.fail(ChannelClosedError(f"RabbitMQ closes a channel: {text}", reply=code, text=text))
        elif isinstance(called, spec.Basic.Cancel):
            self.cancelled = True
            self.wake()

    def flush(self) -> None:
        """Wake those who wait, once for all frames of a read."""
        if self._news:
            self._news = False
            with self.changed:
                self.changed.notify_all()

    def fail(self, error: UnavailableError) -> None:
        """End the channel because of *error*."""
        if self.error is not None:
            return
        self.error = error
        self.ended(self)
        self.wake()

    def wake(self) -> None:
        """Wake those who wait."""
        with self.changed:
            self.wakes += 1
            self.changed.notify_all()


def _ignore(_: Any) -> None:
    """Ignore it."""
