"""Keeps what SQS does not keep of a message in a FIFO queue: which claims were attempts, releases or crashes.

Such a message cannot be sent again without losing its place, so it stays, and SQS counts all its claims alike. What a
claim has ended with is therefore noted beside it, in a record of the result backend: without one, in this process,
and what other processes have done counts as attempts and as crashes.
"""

from __future__ import annotations

import contextlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from queuekit.backend import Backend, Record
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError

__all__ = ["Turn", "Turns", "read_turn"]

_TTL = 1_209_600.0
"""Seconds that a note lives: as long as SQS keeps a message at most."""
_REMEMBERED = 20_000


@attrs.frozen(kw_only=True)
class Turn:
    """How a message stands at a claim."""

    message: str
    """Id that SQS has given it."""
    claims: int
    """How many claims there were, this one included."""
    crashes: int
    """How many of them ended with nothing said."""
    attempt: int
    hop: int = 0
    not_before: float | None = None

    @classmethod
    def of(cls, envelope: Envelope, *, message: str, claims: int, crashes: int) -> Turn:
        """Return the turn of *envelope* as it was handed out."""
        return cls(
            message=message,
            claims=claims,
            crashes=crashes,
            attempt=envelope.attempt,
            hop=envelope.hop,
            not_before=envelope.not_before,
        )

    def retried(self, envelope: Envelope) -> Turn:
        """Return what is to be noted where this claim has led to the next attempt or hop."""
        return attrs.evolve(self, crashes=0, attempt=envelope.attempt, hop=envelope.hop, not_before=envelope.not_before)

    def applied(self, envelope: Envelope, claims: int) -> tuple[Envelope, int]:
        """Return *envelope* and its crashes as they are at claim number *claims*, with this as the note."""
        fields: dict[str, Any] = {"attempt": self.attempt, "hop": self.hop, "not_before": self.not_before}
        return attrs.evolve(envelope, **fields), self.crashes + max(0, claims - self.claims - 1)

    def __str__(self) -> str:
        """Return it as it stands in a token and in a record: no space, and nothing that a name of a queue may hold."""
        moment = "" if self.not_before is None else repr(self.not_before)
        return f"{self.message}!{self.claims}!{self.crashes}!{self.attempt}!{self.hop}!{moment}"


def read_turn(text: str) -> Turn | None:
    """Return what :class:`Turn` has written, or ``None`` if it is none."""
    try:
        message, claims, crashes, attempt, hop, moment = text.split("!")
        turn = Turn(
            message=message,
            claims=int(claims),
            crashes=int(crashes),
            attempt=int(attempt),
            hop=int(hop),
            not_before=float(moment) if moment else None,
        )
    except ValueError:
        return None
    sound = min(turn.claims, turn.crashes, turn.attempt, turn.hop) >= 0 and math.isfinite(turn.not_before or 0.0)
    return turn if sound else None


class Turns:
    """The notes."""

    def __init__(self) -> None:
        self._backend: Backend | None = None
        self._own: OrderedDict[str, Turn] = OrderedDict()

    @property
    def shared(self) -> bool:
        """Whether the notes of all processes are known."""
        return self._backend is not None

    def share(self, backend: Backend) -> None:
        """Keep the notes in *backend* from now on."""
        self._backend = backend

    def note(self, turns: Sequence[Turn]) -> None:
        """Write *turns* down, each in place of an earlier one of its message.

        Raises:
            UnavailableError: The backend does not answer.
        """
        if self._backend is None:
            for turn in turns:
                self._own[turn.message] = turn
            while len(self._own) > _REMEMBERED:
                self._own.popitem(last=False)
        elif turns:
            self._backend.put([Record(key=_key(one.message), body=str(one).encode(), ttl=_TTL) for one in turns])

    def find(self, messages: Sequence[str]) -> Mapping[str, Turn]:
        """Return the notes of *messages*.

        Raises:
            UnavailableError: The backend does not answer.
        """
        if self._backend is None:
            return {id: self._own[id] for id in messages if id in self._own}
        if not messages:
            return {}
        found = self._backend.get([_key(id) for id in messages])
        notes = {id: read_turn(found[_key(id)].body.decode("utf-8", "replace")) for id in messages if _key(id) in found}
        return {id: turn for id, turn in notes.items() if turn is not None}

    def forget(self, messages: Sequence[str]) -> None:
        """Take the notes of *messages* away, which have left their queue; what is left of one ends by itself."""
        if self._backend is None:
            for id in messages:
                self._own.pop(id, None)
        elif messages:
            with contextlib.suppress(UnavailableError):
                self._backend.delete([_key(id) for id in messages])


def _key(message: str) -> str:
    return f"sqs:turn:{message}"
