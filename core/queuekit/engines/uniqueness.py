"""Unique keys for a broker that does not support them: records of the result backend, taken before the send."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import attrs

from queuekit.backend import Backend, Condition, Record
from queuekit.broker import Ack, Broker, Dead, Delivery, Place, Settlement
from queuekit.engines.wrapping import WrappedBroker
from queuekit.envelope import Envelope, Unique
from queuekit.errors import PartialSendError

__all__ = ["WithUniqueKeys"]

_TRIES = 3
"""Attempts to take a key that was held but is free by the time its holder is read."""


class WithUniqueKeys(WrappedBroker):
    """Adds unique keys (``capabilities.unique``) to a broker; everything else is passed to the inner broker.

    Taking a key and sending are two steps: a process that dies between them leaves the key taken until its ``ttl``.

    Args:
        broker: Keeps the messages.
        backend: Keeps the keys, each as a record ``unique:<hash>``.
    """

    def __init__(self, broker: Broker, backend: Backend) -> None:
        super().__init__(broker)
        self._backend = backend
        self.capabilities = attrs.evolve(broker.capabilities, unique=True, commit=False)

    # -- keys

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Take the keys, send the messages that got theirs, and return an id for each; see :meth:`Broker.send`."""
        if not any(envelope.unique for envelope in envelopes):
            return self._broker.send(envelopes)
        ids = self._take(envelopes)
        free = [envelope for envelope, id in zip(envelopes, ids, strict=True) if id == envelope.id]
        try:
            self._broker.send(free)
        except PartialSendError as error:
            self._free([envelope for envelope in free if envelope.id in error.failures])
            raise
        except Exception:
            self._free(free)
            raise
        return ids

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Receive, and free the keys with ``until="start"``."""
        return self.received(self._broker.receive(queues, limit=limit, wait=wait, lease=lease), lease)

    def received(self, deliveries: list[Delivery], lease: float) -> list[Delivery]:
        """Free the keys that are held until the start."""
        self._free([one.envelope for one in deliveries if _until(one.envelope) == "start"])
        return deliveries

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Settle, and free the keys of messages that are done or dead."""
        lost = self._broker.settle(settlements)
        tokens = {delivery.token for delivery in lost}
        ended = [each.delivery for each in settlements if isinstance(each, Ack | Dead)]
        self._free([one.envelope for one in ended if _until(one.envelope) == "done" and one.token not in tokens])
        return lost

    def _take(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Return, for each of *envelopes*, the id that holds its key: its own id if it has no key or took it."""
        ids = [envelope.id for envelope in envelopes]
        left = [place for place, envelope in enumerate(envelopes) if envelope.unique]
        for _ in range(_TRIES):
            holders = self._claim([envelopes[place] for place in left])
            found = dict(zip(left, holders, strict=True))
            for place, holder in found.items():
                ids[place] = holder or ids[place]
            left = [place for place, holder in found.items() if holder is None]  # freed meanwhile: try again
            if not left:
                break
        return ids

    def _claim(self, envelopes: Sequence[Envelope]) -> list[str | None]:
        """Take each key that is free, and return the holders; ``None`` if the key was held but is free by now."""
        records = [_record(envelope) for envelope in envelopes]
        taken = self._backend.put(records, condition=Condition.ABSENT)
        refused = [record.key for record, done in zip(records, taken, strict=True) if not done]
        found = self._backend.get(refused) if refused else {}
        holders = {key: _holder(record) for key, record in found.items()}
        return [
            envelope.id if done else holders.get(record.key)
            for envelope, record, done in zip(envelopes, records, taken, strict=True)
        ]

    def _free(self, envelopes: Sequence[Envelope]) -> None:
        """Free the keys that these messages still hold."""
        keys = {_key(one.unique): one.id for one in envelopes if one.unique}
        if not keys:
            return
        for key, record in self._backend.get(list(keys)).items():
            if _holder(record) == keys[key]:
                self._backend.delete([key], expect=record.version)

    # -- everything else

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        """Delete messages by id, and free the keys of waiting ones."""
        waiting = [] if place is Place.DEAD else self._broker.find(queue, ids)
        removed = self._broker.remove(queue, ids, place=place)
        self._free([stored.envelope for stored in waiting if stored.envelope.id in removed])
        return removed


def _until(envelope: Envelope) -> str:
    return envelope.unique.until if envelope.unique else ""


def _key(unique: Unique) -> str:
    return "unique:" + hashlib.sha256(unique.key.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _record(envelope: Envelope) -> Record:
    assert envelope.unique is not None  # noqa: S101 - called only for envelopes with a key
    return Record(key=_key(envelope.unique), body=envelope.id.encode(), ttl=envelope.unique.ttl)


def _holder(record: Record) -> str:
    """Return the id of the message that holds a key."""
    return record.body.decode("utf-8", "replace")
