"""``flaky://``: the memory engine behind a wire that a test can cut; a plugin, loaded by name.

A broker and a backend of one ``flaky://`` URL are separate engines for core, so outcomes are written step by step.
"""

from collections.abc import Callable, Sequence
from typing import Any

from queuekit.backend import Condition, Join, Page, Record
from queuekit.broker import CommitItem, Delivery, Lease, Settlement
from queuekit.engines.memory import MemoryBackend, MemoryBroker
from queuekit.engines.memory.backend import BACKEND_CAPABILITIES
from queuekit.engines.memory.broker import CAPABILITIES
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.hookspecs import BackendSpec, BrokerSpec, hookimpl

queuekit_api = (1, 0)


class Wire:
    """What a call goes over."""

    def __init__(self) -> None:
        self.cut: set[str] = set()
        """Names of the methods that do not get an answer."""
        self.calls: list[str] = []
        """Names of the methods that were called, in order."""
        self.answers: dict[str, Callable[[], Any]] = {}
        """Called before a method, once: what it raises is raised."""
        self.subject: Any = None
        """What the last call was about."""
        self.after: dict[str, Callable[[], Any]] = {}
        """Called when a method is done, once: what it raises is raised."""

    def pass_over(self, name: str, subject: Any = None) -> None:
        """Stand between the caller of method *name* and the engine."""
        self.calls.append(name)
        self.subject = subject
        if name in self.cut:
            raise UnavailableError(f"no answer to {name}")
        answer = self.answers.pop(name, None)
        if answer is not None:
            answer()

    def back(self, name: str) -> None:
        """Stand between the engine and the caller of method *name*, on the way back."""
        answer = self.after.pop(name, None)
        if answer is not None:
            answer()


class FlakyBroker(MemoryBroker):
    """A memory broker behind a wire."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.engine_id = f"flaky-broker-{id(self)}"
        self.wire = Wire()

    def send(self, envelopes: Sequence[Envelope]) -> list[str]:
        """Send, if the wire holds."""
        self.wire.pass_over("send")
        done = super().send(envelopes)
        self.wire.back("send")
        return done

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Receive, if the wire holds."""
        self.wire.pass_over("receive")
        return super().receive(queues, limit=limit, wait=wait, lease=lease)

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Extend, if the wire holds."""
        self.wire.pass_over("extend")
        return super().extend(leases, lease=lease)

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Settle, if the wire holds."""
        self.wire.pass_over("settle")
        done = super().settle(settlements)
        self.wire.back("settle")
        return done

    def commit(self, items: Sequence[CommitItem]) -> list[bool]:
        """Commit, if the wire holds."""
        self.wire.pass_over("commit")
        return super().commit(items)


class FlakyBackend(MemoryBackend):
    """A memory backend behind a wire."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.engine_id = f"flaky-backend-{id(self)}"
        self.wire = Wire()

    def put(
        self, records: Sequence[Record], *, condition: Condition = Condition.ALWAYS, expect: int | None = None
    ) -> list[bool]:
        """Put, if the wire holds."""
        self.wire.pass_over("put", records)
        done = super().put(records, condition=condition, expect=expect)
        self.wire.back("put")
        return done

    def get(self, keys: Sequence[str]) -> dict[str, Record]:
        """Get, if the wire holds."""
        self.wire.pass_over("get")
        return super().get(keys)

    def wait(self, keys: Sequence[str], *, timeout: float) -> dict[str, Record]:
        """Wait, if the wire holds."""
        self.wire.pass_over("wait")
        return super().wait(keys, timeout=timeout)

    def join(self, group: str, member: int, size: int, *, ttl: float = 604_800.0) -> tuple[bool, int]:
        """Join, if the wire holds."""
        self.wire.pass_over("join")
        done = super().join(group, member, size, ttl=ttl)
        self.wire.back("join")
        return done

    def join_many(self, joins: Sequence[Join]) -> list[int]:
        """Join, if the wire holds."""
        self.wire.pass_over("join")
        done = super().join_many(joins)
        self.wire.back("join")
        return done

    def delete(self, keys: Sequence[str], *, expect: int | None = None) -> int:
        """Delete, if the wire holds."""
        self.wire.pass_over("delete")
        return super().delete(keys, expect=expect)

    def scan(self, prefix: str, *, limit: int = 100, cursor: str | None = None) -> Page[Record]:
        """Scan, if the wire holds."""
        self.wire.pass_over("scan")
        return super().scan(prefix, limit=limit, cursor=cursor)


@hookimpl
def queuekit_brokers() -> list[BrokerSpec]:
    """Return the broker."""
    return [BrokerSpec(schemes=("flaky",), factory=FlakyBroker, capabilities=CAPABILITIES)]


@hookimpl
def queuekit_backends() -> list[BackendSpec]:
    """Return the backend."""
    return [BackendSpec(schemes=("flaky",), factory=FlakyBackend, capabilities=BACKEND_CAPABILITIES)]
