"""Queues as folders: a message is a file, a claim is a rename, and a lease ends when the file's time says."""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
from queuekit.broker import Ack, Broker, Delivery, Lease, Release, Retry, Settlement
from queuekit.envelope import Envelope, Unique, join_frame, split_frame
from queuekit.errors import ConfigError, TooLargeError, UnavailableError
from queuekit.urls import EngineURL

_PAUSE = 0.02  # seconds between two looks: nothing wakes us
_next_serial = itertools.count().__next__


@attrs.frozen
class Rank:
    """What the name of a file says; names sort in the order in which messages are handed out."""

    level: int = attrs.field(converter=int)
    due: float = attrs.field(converter=float)
    serial: int = attrs.field(converter=int)
    number: int = attrs.field(converter=int)
    crashes: int = attrs.field(converter=int)
    id: str

    def __str__(self) -> str:
        order = f"{self.level}-{self.due:017.6f}-{self.serial:09d}"
        return f"{order}-{self.number}-{self.crashes}-{self.id}"


class FilesBroker(Broker):
    """Queues below one folder, for the processes of one machine: ``files:///var/jobs``."""

    def __init__(self, url: EngineURL, *, options: object = None, clock: object = None, random: object = None) -> None:
        if url.hosts:
            raise ConfigError(f"{url} names a host", fix="Write files:///var/jobs, with three slashes")
        self._root = Path(url.path)

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Write a file for each message."""
        for envelope in envelopes:
            if len(envelope.body) > self.limits.max_body:
                raise TooLargeError(f"{len(envelope.body):,} bytes are above the limit of {self.limits.max_body:,}")
        with self._available():
            for envelope in envelopes:
                self._write(envelope, sent_at=time.time(), number=0)
        return [envelope.id for envelope in envelopes]

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Move files to the folder of those that are held, looking again and again until there is one."""
        limit, deadline = min(limit, self.limits.max_batch), time.monotonic() + min(wait, self.limits.max_wait)
        with self._available():
            while True:
                for queue in queues:
                    self._reclaim(queue)
                claims = (self._claim(path, queue, lease) for queue in queues for path in self._files(queue, "ready"))
                taken = list(itertools.islice((claim for claim in claims if claim), limit))
                if taken or time.monotonic() >= deadline:
                    return taken
                time.sleep(_PAUSE)

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Set the time of each file that is still where the token says."""
        with self._available():
            return [one for one in leases if not _found(_hold, self._held(one), lease)]

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Carry out each settlement whose file is still where the token says."""
        with self._available():
            return [each.delivery for each in settlements if not _found(self._settle, each)]

    def _settle(self, settlement: Settlement) -> None:
        held, queue = self._held(settlement.delivery.lease), settlement.delivery.queue
        if isinstance(settlement, Ack):
            return held.unlink()
        rank = _rank(held)
        mine = held.with_name(f"{uuid.uuid4().hex}~{rank}")
        _hold(held, 60.0)
        held.rename(mine)  # wins the fence; should we die before the next step, it is a lease like any other
        if isinstance(settlement, Release):
            due = time.time() + settlement.delay if settlement.delay > 0 else rank.due
            rank = attrs.evolve(rank, due=due, crashes=rank.crashes + settlement.counted)
            mine.rename(self._folder(queue, "ready") / str(rank))
        elif isinstance(settlement, Retry):
            self._write(settlement.envelope, sent_at=settlement.delivery.sent_at, number=rank.number)
            mine.unlink()
        else:
            mine.rename(self._folder(queue, "dead") / f"{settlement.reason}-{rank.id}")
        return None

    def _write(self, envelope: Envelope, *, sent_at: float, number: int) -> None:
        """Put a file beside its folder and then, whole, into it."""
        fields = {**attrs.asdict(envelope), "sent_at": sent_at}
        body = fields.pop("body")
        due = max(time.time() + envelope.delay, envelope.not_before or 0.0)
        draft = self._folder(envelope.queue, "drafts") / uuid.uuid4().hex
        draft.write_bytes(join_frame(fields, body))
        rank = Rank(9 - envelope.priority, due, _next_serial(), number, 0, envelope.id)
        draft.rename(self._folder(envelope.queue, "ready") / str(rank))

    def _claim(self, path: Path, queue: str, lease: float) -> Delivery | None:
        """Return a file as a delivery, unless it is not due or somebody else was quicker."""
        rank, now = _rank(path), time.time()
        if rank.due > now:
            return None
        rank = attrs.evolve(rank, number=rank.number + 1)
        held = self._folder(queue, "held") / f"{uuid.uuid4().hex}~{rank}"
        try:
            _hold(path, lease)  # before it is held, so that it is never held with an old time
            path.rename(held)
            _hold(held, lease)
            header, body = split_frame(held.read_bytes())
        except FileNotFoundError:
            return None
        sent_at, unique = header.pop("sent_at"), header.pop("unique")
        letter = Envelope(**header, body=body, unique=unique and Unique(**unique))
        return Delivery(
            envelope=letter, sent_at=sent_at, claimed_at=now, token=held.name, number=rank.number, crashes=rank.crashes
        )

    def _reclaim(self, queue: str) -> None:
        """Give back what is held by nobody any more, one crash further."""
        for path in self._files(queue, "held"):
            rank = _rank(path)
            back = self._folder(queue, "ready") / str(attrs.evolve(rank, crashes=rank.crashes + 1))
            _found(lambda held, ready: held.stat().st_mtime <= time.time() and held.rename(ready), path, back)

    def _held(self, lease: Lease) -> Path:
        return self._folder(lease.queue, "held") / lease.token

    def _files(self, queue: str, place: str) -> list[Path]:
        folder = self._folder(queue, place)
        return [folder / name for name in sorted(os.listdir(folder))]

    def _folder(self, queue: str, place: str) -> Path:
        folder = self._root / f"queue-{queue}" / place
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(f"{self._root} cannot be used: {error.strerror}") from error


def _rank(path: Path) -> Rank:
    return Rank(*path.name.rpartition("~")[2].split("-", 5))


def _hold(path: Path, lease: float) -> None:
    os.utime(path, times=(time.time() + lease,) * 2)


def _found(step: Callable[..., object], *args: object) -> bool:
    """Do *step*; false if its file is gone, which means that somebody else has the message."""
    try:
        step(*args)
    except FileNotFoundError:
        return False
    return True
