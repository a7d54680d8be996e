"""Copies of a follow-up on a broker without deduplication: one runs at a time, and none once its step is done."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, chain, chord, group
from queuekit.backend import Backend, Record
from queuekit.broker import Ack, Broker, Dead, Delivery, Release, Replace, Settlement
from queuekit.client.runtime import _completed
from queuekit.engines.copies import WithoutCopies
from queuekit.engines.memory import MemoryBackend
from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from queuekit.states import State, rank
from queuekit.urls import EngineURL
from queuekit.worker import Worker
from queuekit_testing.kit import unique_name
from support.copying import CopyingBroker
from support.waiting import wait_until

FOLLOW_UP = b'{"v":1,"id":"a","task":"t","ct":"json","parent":"p"}\n{}'
TICK = b'{"v":1,"id":"a","task":"t","ct":"json","headers":{"cron":"c","cron-time":"m"}}\n{}'
ORDINARY = b'{"v":1,"id":"a","task":"t","ct":"json"}\n{}'
LOOKALIKE = b'{"v":1,"id":"a","task":"t","ct":"json","headers":{"parent":"p"}}\n{}'


class Counting(MemoryBackend):
    """Records in this process; counts the calls."""

    calls = 0
    down = False

    def put(self, records: Any, **options: Any) -> list[bool]:
        """Write records, unless it is down."""
        self.calls += 1
        if self.down:
            raise UnavailableError("down")
        return super().put(records, **options)


@pytest.fixture
def backend() -> Counting:
    """Return the records."""
    return Counting(EngineURL.parse(f"memory://{unique_name('copies')}"))


@pytest.fixture
def inner() -> CopyingBroker:
    """Return the service."""
    return CopyingBroker()


@pytest.fixture
def broker(inner: CopyingBroker, backend: Backend) -> WithoutCopies:
    """Return one client of it."""
    return WithoutCopies(inner, backend)


def message(body: bytes = FOLLOW_UP, **fields: Any) -> Envelope:
    """Return a message."""
    return Envelope(**{"id": "a", "queue": "q", "body": body, **fields})


def take(broker: Broker, *, lease: float = 30.0) -> list[Delivery]:
    """Take what is there now."""
    return broker.receive(["q"], limit=10, wait=0, lease=lease)


@pytest.mark.parametrize("body", [FOLLOW_UP, TICK], ids=["follow-up", "tick"])
def test_one_copy_is_handed_out_at_a_time(broker: WithoutCopies, body: bytes) -> None:
    """Of several copies one is handed out, in one batch or in several; the others come back later."""
    broker.send([message(body), message(body)])
    first = take(broker)

    broker.send([message(body)])

    assert len(first) == 1
    assert take(broker) == []


@pytest.mark.parametrize("body", [ORDINARY, LOOKALIKE, b"no header", b'{"parent":1'], ids=str)
def test_ordinary_messages_pay_nothing(
    broker: WithoutCopies, inner: CopyingBroker, backend: Counting, body: bytes
) -> None:
    """What nobody sends twice by design has no record, and its token is the service's."""
    broker.send([message(body)])

    (delivery,) = take(broker)
    broker.settle([Ack(delivery)])

    assert delivery.token in inner.handed_out
    assert backend.calls == 0


@pytest.mark.parametrize(
    "settlement",
    [Ack, lambda one: Dead(one, reason="failed")],
    ids=["done", "dead"],
)
def test_a_copy_of_what_has_ended_is_dropped(
    broker: WithoutCopies, inner: CopyingBroker, settlement: Callable[[Delivery], Settlement]
) -> None:
    """A copy that comes after the end is not handed out, and leaves its queue."""
    broker.send([message(), message()])
    (delivery,) = take(broker)
    broker.settle([settlement(delivery)])
    inner.end_leases()

    assert take(broker) == []
    assert inner.kept == []


def test_a_copy_of_an_earlier_attempt_is_dropped(broker: WithoutCopies, inner: CopyingBroker) -> None:
    """Once a message is at its second attempt, only that one is handed out."""
    broker.send([message(), message()])
    (delivery,) = take(broker)
    broker.settle([Replace(delivery, message(attempt=1))])
    inner.end_leases()

    (second,) = take(broker)

    assert second.envelope.attempt == 1
    assert len(inner.kept) == 1


def test_a_replayed_message_is_handed_out(broker: WithoutCopies) -> None:
    """A dead letter that an operator replays runs again."""
    broker.send([message()])
    broker.settle([Dead(take(broker)[0], reason="failed")])

    broker.send([message(generation=1)])

    assert len(take(broker)) == 1


def test_what_is_handed_back_is_handed_out_at_once(broker: WithoutCopies) -> None:
    """A release gives the record away, so nobody waits for a worker that has stopped."""
    broker.send([message()])
    broker.settle([Release(take(broker)[0])])

    assert len(take(broker)) == 1


def test_a_copy_does_not_overtake_what_is_put_off(broker: WithoutCopies) -> None:
    """While one copy is to come back after a delay, the others wait as well."""
    broker.send([message(), message()])
    (delivery,) = take(broker)

    broker.settle([Release(delivery, delay=60)])
    broker.send([message()])

    assert take(broker) == []


def test_another_process_hands_back(inner: CopyingBroker, backend: Backend, broker: WithoutCopies) -> None:
    """A supervisor, which has nothing but the lease, gives the record of a dead process away."""
    broker.send([message()])
    (delivery,) = take(broker)
    known = Envelope(id="a", queue="q", body=b"")

    supervisor = WithoutCopies(inner, backend)
    supervisor.settle([Release(attrs.evolve(delivery, envelope=known), counted=True)])

    assert len(take(broker)) == 1


def test_the_record_of_a_dead_holder_ends(broker: WithoutCopies, inner: CopyingBroker, backend: Counting) -> None:
    """Where nobody hands back, what comes again is handed out when the lease of the record is over."""
    broker.send([message()])
    take(broker)
    backend.delete(["once:a"])
    inner.end_leases()

    assert len(take(broker)) == 1


def test_a_record_lives_as_long_as_its_lease(broker: WithoutCopies, backend: Counting) -> None:
    """Whoever extends the lease prolongs the record, and a lost lease prolongs nothing."""
    broker.send([message()])
    (delivery,) = take(broker, lease=5.0)

    lost = broker.extend([delivery.lease], lease=60.0)

    assert lost == []
    assert (backend.get(["once:a"])["once:a"].ttl or 0) > 50
    broker.settle([Ack(delivery)])
    assert broker.extend([delivery.lease], lease=60.0) == [delivery.lease]


def test_a_lost_answer_does_not_lock_its_own_message_out(broker: WithoutCopies, backend: Counting) -> None:
    """A record that was written though the answer was lost is found to be one's own."""
    real = backend.put

    def put_unheard(records: list[Record], **options: Any) -> list[bool]:
        real(records, **options)
        return real(records, **options)

    backend.put = put_unheard  # type: ignore[method-assign]
    broker.send([message()])

    assert len(take(broker)) == 1


def test_a_backend_that_is_down_holds_follow_ups_back(
    broker: WithoutCopies, inner: CopyingBroker, backend: Counting
) -> None:
    """Ordinary messages of the batch are handed out, follow-ups come again, and nothing is lost."""
    broker.send([message(), message(ORDINARY, id="b")])
    backend.down = True

    assert [one.id for one in take(broker)] == ["b"]
    inner.end_leases()
    broker.settle([])
    backend.down = False
    assert "a" in [one.id for one in take(broker)]


@pytest.mark.parametrize("field", ["generation", "attempt", "hop"])
def test_a_number_beyond_all_bounds_is_handed_out(broker: WithoutCopies, field: str) -> None:
    """An attempt whose place cannot be told is handed out rather than lost."""
    fields: dict[str, Any] = {field: 2**40}
    broker.send([message(**fields)])

    assert len(take(broker)) == 1


def test_copies_wait_here_where_the_service_cannot_delay(inner: CopyingBroker, backend: Counting) -> None:
    """A service that hands back at once is not asked again and again: a copy waits with its lease in hand."""
    inner.capabilities = attrs.evolve(inner.capabilities, delay=False)
    broker = WithoutCopies(inner, backend)
    broker.send([message(), message()])
    (first,) = take(broker)
    assert take(broker) == []
    assert inner.settled == []

    broker.close()

    assert [type(each) for each in inner.settled] == [Release]
    broker.settle([Ack(first)])
    assert take(broker) == []
    assert inner.kept == []


def test_copies_that_have_waited_are_given_back(inner: CopyingBroker, backend: Counting) -> None:
    """After a third of a lease a copy that waits is given back, with or without others to receive."""
    inner.capabilities = attrs.evolve(inner.capabilities, delay=False)
    broker = WithoutCopies(inner, backend)
    broker.send([message(), message()])
    (first,) = take(broker, lease=0.3)
    broker.settle([Ack(first)])

    wait_until(lambda: take(broker, lease=0.3) == [] and not inner.kept, what="the copy given back, and dropped")


# -- with workers ----------------------------------------------------------------------------------------------------


@pytest.fixture
def app(inner: CopyingBroker, backend: Backend) -> Queuekit:
    """Return an app on that service."""
    made = Queuekit(broker=f"memory://{unique_name('copies')}", worker={"concurrency": 4, "schedules": False})
    runtime = attrs.evolve(made.runtime, broker=_completed(inner, backend), backend=backend)
    made._runtime = runtime
    return made


def run_all(app: Queuekit, inner: CopyingBroker) -> None:
    """Run workers until nothing is left; leases and delays are over whenever one ends."""
    for _ in range(20):
        Worker(app, burst=True).run()
        inner.end_leases()
        if not inner.kept:
            return
    pytest.fail(f"left: {inner.kept}")


@pytest.fixture
def doubling(inner: CopyingBroker) -> Callable[[], None]:
    """Return what has each send done twice from then on, as by a worker that dies before it has acknowledged."""
    real = inner.send

    def send(envelopes: Any) -> list[str]:
        real(envelopes)
        return real(envelopes)

    def begin() -> None:
        inner.send = send  # type: ignore[method-assign]

    return begin


@pytest.mark.parametrize("ignore", [False, True], ids=["results", "no-results"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["def", "async-def"])
def test_every_follow_up_runs_once(
    app: Queuekit, inner: CopyingBroker, doubling: Callable[[], None], *, ignore: bool, asynchronous: bool
) -> None:
    """Callbacks, links of a chain, members that follow something, ``on_success`` and ``on_error`` run once each."""
    runs: list[str] = []

    def note(name: str, *_: Any) -> str:
        runs.append(name)
        return name

    async def anote(name: str, *_: Any) -> str:
        return note(name)

    def fail() -> None:
        raise ValueError("always")

    noted = app.task(name="note", ignore_result=ignore)(anote if asynchronous else note)
    failing = app.task(name="fail")(fail)
    chord(group(noted.s("m1"), noted.s("m2")), noted.s("callback")).send()
    chain(noted.s("first"), group(noted.s("g1"), noted.s("g2")), noted.s("last")).send()
    noted.options(on_success=[noted.s("success")]).send("parent")
    failing.options(on_error=[noted.s("error")]).send()
    doubling()

    run_all(app, inner)

    names = ["callback", "error", "first", "g1", "g2", "last", "m1", "m2", "parent", "success"]
    assert sorted(runs) == names


def ended(**position: int) -> Record:
    """Return the record of a message that has ended."""
    return Record(key="result:bare", rank=rank(State.SUCCESS, **position), final=True, state="SUCCESS")


class Bodiless(CopyingBroker):
    """A service that has lost the bodies of its messages."""

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Receive, and say that the bodies are gone."""
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        return [attrs.evolve(one, unread="its body is gone") for one in found]


@pytest.mark.parametrize(("written", "handed_out"), [((), 1), ((ended(),), 0)], ids=["unknown", "ended"])
def test_a_copy_without_its_body_is_dropped_once_it_has_ended(
    backend: Counting, written: tuple[Record, ...], handed_out: int
) -> None:
    """Whoever ended the message has removed the body that it had elsewhere; of others the body is missing."""
    inner = Bodiless()
    backend.put(written)
    inner.send([Envelope(id="bare", queue="q", body=b'{"bucket": "b", "key": "k"}')])

    deliveries = WithoutCopies(inner, backend).receive(["q"], limit=10, wait=0, lease=30)

    assert len(deliveries) == handed_out
    assert len(inner.kept) == handed_out


def test_a_replayed_message_without_its_body_is_handed_out(backend: Counting) -> None:
    """The record tells of the end before the replay."""
    inner = Bodiless()
    backend.put([ended()])
    inner.send([Envelope(id="bare", queue="q", body=b"{}", generation=1)])

    assert len(WithoutCopies(inner, backend).receive(["q"], limit=10, wait=0, lease=30)) == 1


def test_garbage_under_the_id_of_a_message_that_has_ended_is_handed_out(
    inner: CopyingBroker, backend: Counting, broker: WithoutCopies
) -> None:
    """Only the service knows that a body is missing; what it holds is quarantined, not dropped."""
    backend.put([ended()])
    inner.send([Envelope(id="bare", queue="q", body=b"garbage")])

    assert len(broker.receive(["q"], limit=10, wait=0, lease=30)) == 1
