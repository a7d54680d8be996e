"""Store which claims of a message in a FIFO queue were attempts, releases or crashes; SQS does not.

Such a message cannot be sent again without losing its position, so it stays in place, and SQS counts all its claims
alike. So the result of each claim is stored in a record of the result backend. Without a backend, each process knows
only its own claims, and those of other processes count as attempts and as crashes.
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
"""Lifetime of a note in seconds: the longest time that SQS keeps a message."""
_REMEMBERED = 20_000


@attrs.frozen(kw_only=True)
class Turn:
    """The state of a message at a claim."""

    message: str
    """Id that SQS assigned to it."""
    claims: int
    """Number of claims, including this one."""
    crashes: int
    """Number of claims that ended without a settlement."""
    attempt: int
    hop: int = 0
    not_before: float | None = None

    @classmethod
    def of(cls, envelope: Envelope, *, message: str, claims: int, crashes: int) -> Turn:
        """Return the turn of *envelope* as it was delivered."""
        return cls(
            message=message,
            claims=claims,
            crashes=crashes,
            attempt=envelope.attempt,
            hop=envelope.hop,
            not_before=envelope.not_before,
        )

    def retried(self, envelope: Envelope) -> Turn:
        """Return the turn to store after this claim has led to the next attempt or re-delay."""
        return attrs.evolve(self, crashes=0, attempt=envelope.attempt, hop=envelope.hop, not_before=envelope.not_before)

    def applied(self, envelope: Envelope, claims: int) -> tuple[Envelope, int]:
        """Return *envelope* and its crashes at claim number *claims*, given this turn as the stored one."""
        fields: dict[str, Any] = {"attempt": self.attempt, "hop": self.hop, "not_before": self.not_before}
        return attrs.evolve(envelope, **fields), self.crashes + max(0, claims - self.claims - 1)

    def __str__(self) -> str:
        """Return it for a token or a record, without spaces and with a separator that queue names cannot contain."""
        moment = "" if self.not_before is None else repr(self.not_before)
        return f"{self.message}!{self.claims}!{self.crashes}!{self.attempt}!{self.hop}!{moment}"


def read_turn(text: str) -> Turn | None:
    """Return the :class:`Turn` in *text*, or ``None`` if it is not one."""
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
    """Stores the turns of messages."""

    def __init__(self) -> None:
        self._backend: Backend | None = None
        self._own: OrderedDict[str, Turn] = OrderedDict()

    @property
    def shared(self) -> bool:
        """Whether all processes share their turns."""
        return self._backend is not None

    def share(self, backend: Backend) -> None:
        """Store the turns in *backend* from now on."""
        self._backend = backend

    def note(self, turns: Sequence[Turn]) -> None:
        """Store *turns*; each replaces an earlier one of its message.

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
        """Return the stored turns of *messages*.

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
        """Delete the turns of *messages*, which have left their queue; a turn that remains expires."""
        if self._backend is None:
            for id in messages:
                self._own.pop(id, None)
        elif messages:
            with contextlib.suppress(UnavailableError):
                self._backend.delete([_key(id) for id in messages])


def _key(message: str) -> str:
    return f"sqs:turn:{message}"
