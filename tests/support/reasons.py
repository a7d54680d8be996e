"""Bring about each reason why a message does not run, on any engine, without a worker."""

import json
import time
from collections.abc import Callable
from typing import Any

import attrs

from queuekit import Queuekit, Signature, UniqueKey
from queuekit.backend import Record
from queuekit.broker import Delivery, Release, Replace
from queuekit.envelope import Envelope
from queuekit.execution.workflow_held import FOLLOW_TASK
from queuekit.limiting.rates import with_turn
from queuekit.limiting.slot_store import Slots, Wish
from queuekit.limiting.slots import SlotKey
from queuekit.limits import Concurrency
from queuekit.operations.admin import Admin
from queuekit.operations.pauses import pause
from queuekit.operations.why import collect, reasons
from queuekit.wire.merges import MERGE, Running, read_state
from queuekit.wire.presence import TTL
from queuekit.wire.records import Cancellation, cancel_mark, pending, worker_key
from support.waiting import wait_until
from support.working import finish

__all__ = ["UNTOLD", "WAYS", "reach"]

UNTOLD = frozenset({"held_unique", "leased", "limited", "missing", "suspect"})
"""Reasons that nobody can know of a broker that does not report its messages."""


def _divide(divisor: float = 1.0) -> float:
    return 1 / divisor


class Scene:
    """One reason on one engine: a queue of its own, named as the reason, whose messages call a task."""

    def __init__(self, app: Queuekit, code: str) -> None:
        self.app = app
        self.queue = code.replace("_", "-")
        self.backend = app.runtime.need_backend("a test")
        app.task(name=code, queue=self.queue)(_divide)
        self.task = app.tasks[code]

    def send(self, *args: Any, **options: Any) -> str:
        """Send a message, and return its id."""
        return self.app.send(Signature(self.task.name, args, {}, queue=self.queue, **options)).id

    def take(self) -> Delivery:
        """Receive the message as a worker does; SQS may need a moment to hand it out."""
        broker = self.app.runtime.broker
        (delivery,) = wait_until(lambda: broker.receive([self.queue], limit=1, wait=1.0, lease=60.0), "a message")
        assert isinstance(delivery, Delivery)
        return delivery

    def present(self, **fields: Any) -> None:
        """Write the presence record of a worker of the queue."""
        name = f"w-{self.queue}"
        body = json.dumps({"name": name, "queues": [self.queue], **fields}).encode()
        self.backend.put([Record(key=worker_key(name), body=body, ttl=TTL)])


def _no_slot(scene: Scene) -> str:
    """A message that waits, since another holds the only slot."""
    scene.app.task(name="one_at_a_time", queue=scene.queue, limits=[Concurrency(1)])(_divide)
    first, second = (scene.app.send(Signature("one_at_a_time", queue=scene.queue)).id for _ in range(2))
    runtime, place = scene.app.runtime, SlotKey("one_at_a_time.concurrency", "", Concurrency(1))
    deliveries = sorted([scene.take(), scene.take()], key=lambda one: one.id == second)
    slots = Slots(scene.backend, runtime.broker, lease=60.0)
    slots.acquire([Wish.of(one, [place], "one_at_a_time") for one in deliveries], runtime.now())
    assert first != second
    return second


def _dead(scene: Scene) -> str:
    id = scene.send(0)
    finish(scene.app, scene.take())
    return id


def _cancelled(scene: Scene) -> str:
    id = scene.send()
    Admin(scene.app).cancel(id, by="ann")
    if not scene.app.runtime.broker.capabilities.remove:
        finish(scene.app, scene.take())
    return id


def _expired(scene: Scene) -> str:
    sent = time.time()
    id = scene.send(expires=0.1)
    wait_until(lambda: time.time() > sent + 1.0, "its end")
    finish(scene.app, scene.take())
    return id


def _gone(scene: Scene) -> str:
    id = scene.send()
    finish(scene.app, scene.take())
    return id


def _running(scene: Scene) -> str:
    id = scene.send()
    scene.take()
    scene.present(runs=[[id, scene.task.name, scene.queue, 1.0]], begun=[id])
    return id


def _leased(scene: Scene) -> str:
    id = scene.send()
    scene.take()
    return id


def _cancelling(scene: Scene) -> str:
    id = scene.send()
    scene.backend.put([cancel_mark(id, ttl=60.0, wish=Cancellation(by="ann", at=time.time()))])
    return id


def _paused(scene: Scene) -> str:
    pause(Admin(scene.app), queue=scene.queue, by="ann")
    return scene.send()


def _held_unique(scene: Scene) -> str:
    id = f"held-{scene.queue}"
    body = f'{{"v":1,"id":"{id}","task":"{FOLLOW_TASK}","ct":"json"}}\n{{"args":["holder"]}}'.encode()
    scene.app.runtime.broker.send([Envelope(id=id, queue=scene.queue, body=body)])
    return id


def _debounced(scene: Scene) -> str:
    return scene.send(unique=UniqueKey(key=scene.queue, on_conflict="debounce", quiet=3600.0))


def _latest(scene: Scene) -> str:
    id = scene.send(unique=UniqueKey(key=scene.queue, on_conflict="latest"))
    merge = scene.app.info(id).merge
    assert merge is not None
    (record,) = scene.backend.get([MERGE + merge.key]).values()
    running = Running(id="holder", queue=scene.queue, since=time.time())
    state = attrs.evolve(read_state(record), running=running)
    assert scene.backend.put_same([state.record(merge, time.time())]) == [True]
    return id


def _draining(scene: Scene) -> str:
    scene.present(draining=True)
    return scene.send()


def _limited(scene: Scene) -> str:
    id = scene.send()
    delivery = scene.take()
    turned = with_turn(delivery.envelope, time.time() + 60.0, 60.0)
    scene.app.runtime.broker.settle([Replace(delivery, turned)])
    return id


def _held_back(scene: Scene) -> str:
    scene.present(gate="the gate is_up is closed")
    return scene.send()


def _unknown_task(scene: Scene) -> str:
    scene.present(unknown=[scene.task.name])
    return scene.send()


def _suspect(scene: Scene) -> str:
    id = scene.send()
    scene.present()
    scene.app.runtime.broker.settle([Release(scene.take(), counted=True)])
    return id


def _behind(scene: Scene) -> str:
    scene.present(rate=5.0)
    scene.send()
    return scene.send()


def _missing(scene: Scene) -> str:
    id = f"missing-{scene.queue}"
    scene.backend.put([pending(id=id, task=scene.task.name, queue=scene.queue, ttl=60.0, at=time.time())])
    return id


WAYS: dict[str, Callable[[Scene], str]] = {
    "never_sent": lambda _: "nobody",
    "dead": _dead,
    "cancelled": _cancelled,
    "expired": _expired,
    "gone": _gone,
    "running": _running,
    "leased": _leased,
    "cancelling": _cancelling,
    "paused": _paused,
    "delayed": lambda scene: scene.send(delay=3600.0),
    "no_slot": _no_slot,
    "limited": _limited,
    "held_unique": _held_unique,
    "latest": _latest,
    "debounced": _debounced,
    "no_worker": Scene.send,
    "workers_draining": _draining,
    "held_back": _held_back,
    "unknown_task": _unknown_task,
    "suspect": _suspect,
    "behind": _behind,
    "missing": _missing,
}
"""How to bring about each reason; returns the id of the message that it is about."""


def reach(app: Queuekit) -> dict[str, str]:
    """Bring about all reasons that the broker can tell, and return by reason what is answered."""
    inspects = app.runtime.broker.capabilities.inspect
    told = [code for code in WAYS if inspects or code not in UNTOLD]
    ids = {code: WAYS[code](Scene(app, code)) for code in told}
    return {code: reasons(collect(Admin(app), id))[0].code for code, id in ids.items()}
