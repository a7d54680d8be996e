"""The broker of ``sqlite:///``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random

from queuekit.backend import Page
from queuekit.broker import (
    Broker,
    Capabilities,
    CommitItem,
    Delivery,
    Lease,
    Limits,
    Place,
    QueueCounts,
    Replace,
    Settlement,
    Stored,
)
from queuekit.clock import Clock
from queuekit.engines.sqlite import claiming, committing, inspection, settling
from queuekit.engines.sqlite.backend import BACKEND_LIMITS
from queuekit.engines.sqlite.database import Database
from queuekit.engines.sqlite.options import SqliteOptions
from queuekit.engines.sqlite.rows import LARGEST_BATCH
from queuekit.engines.sqlite.sending import are_plain, send_all
from queuekit.engines.sqlite.tokens import new_claim
from queuekit.engines.sqlite.upkeep import Snapshot, Upkeep, promote
from queuekit.engines.sqlite.waiting import LONGEST_SLEEP, Notifier
from queuekit.envelope import Envelope
from queuekit.urls import EngineURL

__all__ = ["CAPABILITIES", "LIMITS", "SqliteBroker"]

CAPABILITIES = Capabilities(commit=True, lanes=True)
LIMITS = Limits()


class SqliteBroker(Broker):
    """Queues in one file, shared by the processes of a machine; see :class:`~queuekit.broker.Broker`.

    Args:
        url: ``sqlite:///FILE``; a backend of the same file can commit together with it.
        options: Options of the file.
        clock: The machine's clock; the file's time never steps back, even if this clock does.
        random: Creates the tokens, and spreads the retries of several processes.
    """

    capabilities = CAPABILITIES
    limits = LIMITS

    def __init__(
        self,
        url: EngineURL,
        *,
        options: SqliteOptions | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._database = Database.of(url, options=options, clock=clock, random=random)
        self.engine_id = f"sqlite:{self._database.path}"
        self._notifier = Notifier(f"{self._database.path}-wake")
        self._upkeep = Upkeep(self._database, self._notifier)

    # -- delivering ----------------------------------------------------------------------------------------------

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Put *envelopes* on their queues."""
        if not envelopes:
            return []
        self.check_sizes(envelopes)
        queues = {envelope.queue for envelope in envelopes}
        self._database.know(queues)
        if len(envelopes) <= LARGEST_BATCH and are_plain(envelopes):
            # One statement needs no transaction around it.
            holders = send_all(self._database, envelopes, self._database.time.now())
        else:
            with self._database.transaction() as transaction:
                holders = send_all(transaction, envelopes, self._database.time.now())
        self._notifier.notify(queues)
        return holders

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Take due messages under a lease, waiting for the first one; a send in any process ends the wait."""
        limit = min(limit, self.limits.max_batch)
        deadline = time.monotonic() + min(wait, self.limits.max_wait)
        handled = self._notifier.interrupts.handled
        deliveries, _ = self._take(queues, limit, lease)
        if deliveries or limit <= 0 or wait <= 0:
            return deliveries
        with self._notifier.listen(queues) as listener:
            while True:
                deliveries, snapshot = self._take(queues, limit, lease)
                left = deadline - time.monotonic()
                if deliveries or left <= 0 or self._notifier.interrupts.interrupted(handled):
                    return deliveries
                until_event = snapshot.next_event - self._database.time.now()
                listener.wait(max(0.0, min(left, until_event, LONGEST_SLEEP)))

    def _take(self, queues: Sequence[str], limit: int, lease: float) -> tuple[list[Delivery], Snapshot]:
        """Do the upkeep and claim ready messages; return them and the snapshot."""
        snapshot = self._upkeep.refresh(queues)
        deliveries: list[Delivery] = []
        for queue in snapshot.ready:
            if len(deliveries) < limit:
                deliveries += claiming.claim(self._database, queue, limit=limit - len(deliveries), lease=lease)
        if 0 < limit <= len(deliveries):
            self._notifier.notify(snapshot.ready)  # there may be more: wake the next waiter
        self._upkeep.sweep()
        return deliveries, snapshot

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Make *leases* end later."""
        return claiming.extend(self._database, leases, lease=lease)

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Apply *settlements*."""
        if not settlements:
            return []
        self.check_sizes([each.envelope for each in settlements if isinstance(each, Replace)])
        window = self.limits.dedup_window
        if settling.are_plain_acks(settlements):
            stamp = new_claim(self._database.random)
            forget_at = self._database.time.now() + window
            done = settling.settle_acks(self._database, settlements, stamp=stamp, forget_at=forget_at)
        else:
            self._database.know({each.envelope.queue for each in settlements if isinstance(each, Replace)})
            with self._database.transaction() as transaction:
                done = settling.settle_all(transaction, settlements, now=self._database.time.now(), window=window)
            self._notifier.notify(settling.woken(settlements))
        return [each.delivery for each, yes in zip(settlements, done, strict=True) if not yes]

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        """Apply each item in one step, all in one transaction."""
        envelopes: list[Envelope] = []
        for item in items:
            envelopes += committing.may_send(item)
            BACKEND_LIMITS.check_sizes(item.records)
        self.check_sizes(envelopes)
        self._database.know({envelope.queue for envelope in envelopes})
        committed = committing.commit(self._database, items, window=self.limits.dedup_window)
        if committed.queues:
            self._notifier.notify(committed.queues)
        if committed.final:
            self._notifier.notify_results(committed.final)
        return committed.done

    # -- inspecting and repairing --------------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        return inspection.queues(self._database)

    def counts(self, queues: Sequence[str]) -> dict[str, QueueCounts]:
        """Return the counts of *queues*; due messages count as ready, even if no worker runs."""
        self._promote()
        return inspection.counts(self._database, queues)

    def peek(self, queue: str, *, place: Place, limit: int = 100, cursor: str | None = None) -> Page[Stored]:
        """Return messages in *place*."""
        self._promote()
        return inspection.peek(self._database, queue, place=place, limit=limit, cursor=cursor)

    def find(self, queue: str, ids: Sequence[str]) -> list[Stored]:
        """Return the messages among *ids* that *queue* holds."""
        self._promote()
        return inspection.find(self._database, queue, ids)

    def search(self, queues: Sequence[str], id: str) -> Stored | None:
        """Return the message *id* from the first of *queues* that holds it."""
        self._promote()
        return inspection.search(self._database, queues, id)

    def requeue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Replay dead letters."""
        replayed = inspection.requeue(self._database, queue, ids)
        self._notifier.notify([queue])
        return replayed

    def remove(self, queue: str, ids: Sequence[str], *, place: Place | None = None) -> list[str]:
        """Delete messages by id; leased ones stay."""
        places = {Place.READY, Place.DELAYED} if place is None else {place} - {Place.LEASED}
        window = self.limits.dedup_window
        return inspection.remove(self._database, queue, ids, places=places, window=window)

    def dead_beyond(self, queue: str, *, count: int | None, before: float | None, limit: int = 500) -> list[str]:
        """Return the ids of dead letters beyond the bounds, oldest first."""
        return inspection.dead_beyond(self._database, queue, count=count, before=before, limit=limit)

    def purge(self, queue: str, *, place: Place = Place.READY) -> int:
        """Delete all messages in *place*; holders of leased ones lose their leases."""
        window = self.limits.dedup_window
        return len(inspection.remove(self._database, queue, None, places={place}, window=window))

    def interrupt(self) -> None:
        """Make a waiting ``receive`` return; if there is none, the next one returns at once."""
        self._notifier.interrupts.interrupt()

    def tell_set_aside(self, hear: Callable[[str, str, str], None]) -> None:
        """Call *hear* for each foreign row that is set aside."""
        self._database.on_set_aside = hear

    def check(self) -> list[str]:
        """Return problems of the file that an operator should know."""
        return self._database.check()

    def notes(self) -> list[str]:
        """Return a note if the file does not exist yet."""
        return ["no such file yet: the first send or worker creates it"] if self._database.is_missing() else []

    def close(self) -> None:
        """Close all connections, and end the waits of this process."""
        self._notifier.interrupts.interrupt()
        self._database.close()
        self._notifier.close()

    def _promote(self) -> None:
        promote(self._database, self._notifier, self._database.time.now())
