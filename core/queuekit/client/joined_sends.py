"""Sends of many coroutines, joined: while one round trip is under way, the next sends gather for the one after it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from queuekit.client.event_loop import running_loop
from queuekit.client.sender import PreparedMessage, Sending, Sent
from queuekit.errors import UnavailableError
from queuekit.signature import Signature
from queuekit.timelimit import LIMITS
from queuekit.values import define

__all__ = ["JoinedSends"]

_MOST = 100
"""Most sends that are joined; the answer of the first waits until all are prepared."""


_TOO_LATE = 1.0
"""Seconds after the end of a batch: who must end before that has too little time for another try."""


@define(eq=False)
class _Call:
    """A send that waits."""

    signature: Signature[Any]
    within: float
    begun: float
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Sent]
    ready: PreparedMessage | None = None
    outcome: Sent | BaseException | None = None


class JoinedSends:
    """Joins the sends that are in flight; each caller gets its own id or error.

    Only for brokers that recognize a repeated send: if a batch fails, its messages are sent one by one.

    Args:
        submit: Runs a function in a thread.
    """

    def __init__(self, submit: Callable[[Callable[[], None]], object]) -> None:
        self._submit = submit
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._busy = False
        """Whether a thread sends, and will look for what waits before it ends."""
        self._last_sent = 0.0

    async def send(self, sending: Sending, signature: Signature[Any], *, within: float) -> Sent:
        """Put *signature* on its queue.

        Args:
            sending: Prepares and sends.
            signature: The call.
            within: Seconds for the call, from now or, if later, from the end of the last successful call.
        """
        loop = running_loop()
        call = _Call(signature, within, time.monotonic(), loop, loop.create_future())
        self._waiting.append(call)
        with self._lock:
            idle, self._busy = not self._busy, True
        if idle:
            self._start(sending, call)
        return await call.answer

    def _start(self, sending: Sending, call: _Call) -> None:
        try:
            self._submit(lambda: self._work(sending))
        except BaseException:  # no thread can be started; the next call tries again
            call.answer.cancel()
            with self._lock:
                self._busy = False
            raise

    def _work(self, sending: Sending) -> None:
        """Send what waits, until nothing does."""
        while calls := self._take():
            for call in calls:
                self._prepare(sending, call)
            ready = [call for call in calls if call.ready is not None]
            # A unique key costs a batch its single step, so those with keys go apart.
            self._store(sending, [call for call in ready if not _has_key(call)])
            self._store(sending, [call for call in ready if _has_key(call)])
            _answer(calls)

    def _take(self) -> list[_Call]:
        with self._lock:
            calls = [self._waiting.popleft() for _ in range(min(_MOST, len(self._waiting)))]
            self._busy = bool(calls)
        return [call for call in calls if not call.answer.cancelled()] or (self._take() if calls else [])

    def _end(self, call: _Call) -> float:
        """Return the monotonic time by which *call* must end."""
        return max(call.begun, self._last_sent) + call.within

    def _prepare(self, sending: Sending, call: _Call) -> None:
        end = self._end(call)
        if time.monotonic() > end:
            call.outcome = UnavailableError(f"not sent: the engine has not answered a send for {call.within:g} s")
            return
        LIMITS.here.end = end  # never reset: only sends use the thread, and each sets its own
        try:
            call.ready = sending.prepare(call.signature)
        except BaseException as error:  # noqa: BLE001 - it is raised where the call was made
            call.outcome = error

    def _store(self, sending: Sending, calls: Sequence[_Call]) -> None:
        """Send *calls* in one round trip; if the engine refuses that, one by one."""
        if not calls:
            return
        LIMITS.here.end = first = min(map(self._end, calls))
        try:
            sent = sending.send_ready([call.ready for call in calls if call.ready is not None])
        except BaseException as error:  # noqa: BLE001 - as above
            self._failed(sending, calls, error, first)
        else:
            self._last_sent = time.monotonic()
            for call, one in zip(calls, sent, strict=True):
                call.outcome = one

    def _failed(self, sending: Sending, calls: Sequence[_Call], error: BaseException, first: float) -> None:
        """Give *error* to those of *calls* that it is for, and send the others again; *first* was the time limit."""
        if isinstance(error, UnavailableError):
            over = [call for call in calls if not error.passing or self._end(call) < first + _TOO_LATE]
            for call in over:
                call.outcome = copy.copy(error)
            self._store(sending, [call for call in calls if call.outcome is None])
        elif len(calls) == 1:
            calls[0].outcome = error
        else:
            for call in calls:
                self._store(sending, [call])


def _has_key(call: _Call) -> bool:
    return call.ready is not None and call.ready.envelope.unique is not None


def _answer(calls: Sequence[_Call]) -> None:
    """Give each caller its outcome, with one call for each event loop."""
    for loop in {call.loop for call in calls}:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(_resolve, [call for call in calls if call.loop is loop])


def _resolve(calls: Sequence[_Call]) -> None:
    for call in calls:
        if call.answer.done():  # its caller was cancelled
            continue
        if isinstance(call.outcome, StopIteration):  # no future can hold it
            problem = RuntimeError("the call raised StopIteration")
            problem.__cause__ = call.outcome
            call.answer.set_exception(problem)
        elif isinstance(call.outcome, BaseException):
            call.answer.set_exception(call.outcome)
        elif call.outcome is not None:
            call.answer.set_result(call.outcome)
