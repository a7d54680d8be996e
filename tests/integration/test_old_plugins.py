"""Plugins that the version before has written do their work under the present core, unchanged."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from queuekit import Context, Fixed, Queuekit, Reject
from queuekit.backend import Backend, BackendCapabilities, Record
from queuekit.broker import Broker
from queuekit.errors import CapabilityError
from queuekit.limits import Concurrency, Rate
from queuekit.operations.admin import Admin
from support.venvs import ROOT
from support.waiting import PATIENCE
from support.working import burst

BEFORE = ROOT / "tests" / "thirdparty" / "before-rooms"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queuekit]:
    """An app on the broker of before, with a result backend of the present."""
    monkeypatch.syspath_prepend(str(BEFORE / "queuekit-files" / "src"))
    made = Queuekit(
        broker=f"files://{tmp_path / 'spool'}",
        backend=f"sqlite:///{tmp_path / 'results.db'}",
        plugins={"load": ["queuekit_files.plugin"]},
        worker={"concurrency": 2},
    )
    yield made
    made.close()


def test_an_old_broker_declares_nothing_new(app: Queuekit) -> None:
    """What it does not know has the meaning of its time."""
    able, limits = app.runtime.broker.capabilities, app.runtime.broker.limits

    assert (able.portable_leases, able.tells_time, able.push, able.counts) == (True, True, False, able.inspect)
    assert (limits.batch_bytes, limits.max_delay) == (1_000_000, None)


def test_an_old_broker_carries_limits(app: Queuekit) -> None:
    """Messages wait for slots under its leases, and are handed back by them."""
    begun: list[int] = []
    pay = app.task(name="pay", limits=[Concurrency(1), Rate("1000/s", burst=10)], ignore_result=True)(begun.append)
    app.send_many([pay.s(number) for number in range(8)])

    burst(app)

    assert sorted(begun) == list(range(8))


def test_an_old_broker_delivers_retries_and_buries(app: Queuekit) -> None:
    """Success, retries, and a dead letter: that it keeps none is made up for by the result backend."""
    attempts: list[int] = []

    @app.task(name="shaky", retries=2, retry=Fixed(0))
    def shaky(ctx: Context) -> int:
        attempts.append(ctx.attempt)
        if ctx.attempt < 2:
            raise ValueError("again")
        return ctx.attempt

    @app.task(name="hopeless")
    def hopeless() -> None:
        raise Reject("never")

    kept, dead = shaky.send(), hopeless.send()
    burst(app)

    assert (kept.get(timeout=PATIENCE), attempts) == (2, [0, 1, 2])
    assert [letter.id for letter in Admin(app).dead("default")] == [dead.id]


def test_an_old_broker_refuses_options_of_a_message_in_words(app: Queuekit) -> None:
    """It has none, and the error says whose task asked for which."""
    task = app.task(name="t")(lambda: None)

    with pytest.raises(CapabilityError, match=r"t asks for broker options \(routing_key\), and files:// has none"):
        task.options(broker={"routing_key": "eu"}).send()


def test_an_old_backend_never_sees_a_new_condition() -> None:
    """``Condition.SAME`` is taken apart by the base class, which asks with ``expect`` as before."""
    asked: list[Any] = []

    class Old:
        """A backend as core sees it here: what it declares, and ``put``."""

        capabilities = BackendCapabilities()

        def put(self, records: Sequence[Record], **how: Any) -> list[bool]:
            """Keep how it was asked."""
            asked.append(([record.key for record in records], how))
            return [True]

    old: Any = Old()

    Backend.put_same(old, [Record(key="a", body=b"1", ttl=9.0, version=7), Record(key="b", body=b"2", ttl=9.0)])

    assert [keys for keys, _ in asked] == [["a"], ["b"]]
    assert [how for _, how in asked] == [{"expect": 7}, {"expect": 0}]


def test_an_old_broker_inherits_the_new_verbs(app: Queuekit) -> None:
    """Push and renewals that change handles have base bodies, which use the verbs that it has."""
    app.task(name="t")(lambda: None).send()
    broker = app.runtime.broker
    (delivery,) = broker.receive(["default"], limit=1, wait=1, lease=30)

    assert isinstance(broker, Broker)
    assert [lease is not None for lease in broker.renew([delivery.lease], lease=30)] == [True]
