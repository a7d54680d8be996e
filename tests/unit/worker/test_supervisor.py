"""What the parent of worker processes knows and says; its processes are at work in tests/integration."""

import math
import os
import resource
import signal
import threading
import time
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, Signature
from queuekit.backend import Record
from queuekit.broker import Capabilities, Delivery, Place
from queuekit.errors import CapabilityError, UnavailableError
from queuekit.events import EngineBack, EngineDown, WorkerCrashed, WorkerGaveUp
from queuekit.wire.records import entered_mark, worker_key
from queuekit.worker import supervisor
from queuekit.worker.app_ref import AppRef
from queuekit.worker.lease_renewer import LeaseRenewer
from queuekit.worker.lease_table import HeldLease, LeaseTable
from queuekit.worker.protocol import Drains, Stop
from queuekit.worker.run_table import RunTable
from queuekit.worker.silent_answers import SilentAnswers
from queuekit.worker.stacks import StackFile
from queuekit.worker.supervisor import (
    Supervisor,
    _Child,
    _how,
    _how_it_ended,
    _is_stopped,
    _memory,
    _renewable,
    _say,
    _signals,
)
from support.working import backend_of, broker_of, counts, flaky_app, inside, make_app, seen, take


def child_of(app: Queuekit, *, pid: int | None = None) -> _Child:
    """Return a child as its parent knows it; its process is this one."""
    here, there = Pipe()
    there.close()
    book = LeaseTable()
    renewer = LeaseRenewer(app.runtime, book, lease=30, on_lost=lambda _: None)
    process: Any = SimpleNamespace(pid=pid or os.getpid())
    table = RunTable(4)
    answers = SilentAnswers(
        app.runtime,
        pid=process.pid,
        run_table=table,
        leases=book,
        stacks=StackFile(-1),
        is_stopped=lambda: False,
    )
    return _Child(0, process, here, table, book, renewer, answers, time.monotonic(), name="host-1")


def leases(app: Queuekit, count: int, **options: Any) -> tuple[list[HeldLease], list[Delivery]]:
    """Send *count* messages, take them, and return what a worker would tell of them."""
    app.send_many([Signature("t") for _ in range(count)])
    deliveries = take(app, count)
    return [HeldLease(serial, *one.lease, **options) for serial, one in enumerate(deliveries, 1)], deliveries


def test_tells_what_it_works_on() -> None:
    """App, engines without passwords, tasks, queues, processes."""
    app = make_app(
        broker="flaky://user:hunter2@host/0",
        backend="none",
        plugins={"load": ["support.flaky"]},
        worker={"queues": "high:8,low:1", "processes": 2, "concurrency": 16},
    )
    app.task(name="shop.mail")(print)

    lines = Supervisor(app, AppRef(target="tasks:app")).banner()

    assert lines == (
        f"queuekit worker   tasks:app   pid {os.getpid()}",
        "broker   flaky://user:***@host/0   results none",
        "tasks    shop.mail",
        "queues   high x8, low x1   2 worker processes x 16 threads",
    )


def test_says_that_there_are_no_tasks() -> None:
    """An app without tasks is worth a word."""
    assert Supervisor(make_app(), AppRef(target="tasks:app")).banner()[2] == "tasks    none"


def test_refuses_to_start_with_what_the_broker_cannot_carry() -> None:
    """Before any process is started."""
    app = make_app()
    app.task(name="urgent", priority=9)(print)
    app.runtime.broker.capabilities = Capabilities(priority=False)

    with pytest.raises(CapabilityError, match="urgent asks for priority"):
        Supervisor(app, AppRef(target="tasks:app")).run()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param(3, "exited with code 3", id="code"),
        pytest.param(-signal.SIGSEGV, "killed by SIGSEGV", id="signal"),
        pytest.param(-signal.SIGKILL, "killed by SIGKILL, perhaps out of memory", id="sigkill"),
        pytest.param(-200, "killed by 200", id="unknown-signal"),
    ],
)
def test_tells_in_words_how_a_process_ended(code: int, words: str) -> None:
    """As a person would say it."""
    assert _how(code) == words


def test_names_what_a_dead_process_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose bodies had begun; nothing else in the log says which they were, and it names only some of many."""
    monkeypatch.setattr(supervisor, "_NAMED", 2)
    app = make_app()
    held, _ = leases(app, 4)
    child = child_of(app)

    idle = _how_it_ended(child, -signal.SIGKILL, held)
    child.run_table.enter(0, held[1].serial, time.monotonic())
    one = _how_it_ended(child, -signal.SIGSEGV, held)
    for row, held_lease in enumerate(held):
        child.run_table.enter(row, held_lease.serial, time.monotonic())
    many = _how_it_ended(child, -signal.SIGSEGV, held)

    assert idle == "killed by SIGKILL, perhaps out of memory"
    assert one == f"killed by SIGSEGV while it ran {held[1].id}"
    assert many == f"killed by SIGSEGV while it ran {held[0].id}, {held[1].id} and 2 more"


def test_hands_back_what_a_dead_process_held() -> None:
    """All at once; only those whose bodies had been entered are counted and marked (QK6)."""
    app = make_app()
    held, deliveries = leases(app, 3)
    child = child_of(app)
    child.run_table.enter(0, 2, time.monotonic())
    child.run_table.enter(1, 99, time.monotonic())

    Supervisor(app, AppRef(target="tasks:app"))._hand_back(child, held)

    crashes = {letter.envelope.id: letter.crashes for letter in inside(app, Place.READY)}
    assert crashes == {deliveries[0].id: 0, deliveries[1].id: 1, deliveries[2].id: 0}
    key = entered_mark(deliveries[1]).key
    assert list(app.runtime.need_backend("test").get([key])) == [key]


@pytest.mark.parametrize("died", [True, False], ids=["killed", "ended"])
def test_a_process_that_died_is_listed_no_more(*, died: bool) -> None:
    """It deletes its presence record itself only where it ends in order."""
    app = make_app()
    backend = app.runtime.need_backend("a test")
    backend.put([Record(key=worker_key("host-1"), body=b"{}")])
    child = child_of(app)
    renewer = child.renewer
    assert renewer is not None
    renewer.start()

    Supervisor(app, AppRef(target="tasks:app"))._clear_up(child, [], died=died)

    assert (worker_key("host-1") in backend.get([worker_key("host-1")])) is not died


class Noting(Supervisor):
    """Notes which processes it would start."""

    def _start(self, number: int) -> None:
        self.started = [*getattr(self, "started", []), number]


@pytest.mark.parametrize("burst", [True, False], ids=["burst", "worker"])
def test_a_burst_hands_back_before_it_starts_a_process_again(*, burst: bool) -> None:
    """A new process that came first would find nothing, and the burst would end with that message unrun."""
    supervisor = Noting(make_app(), AppRef(target="tasks:app"), burst=burst)
    handed_back = threading.Event()
    supervisor._helpers = [threading.Thread(target=handed_back.wait, daemon=True)]
    supervisor._helpers[0].start()
    supervisor._restarts = {0: (0.0, 1)}

    supervisor._start_again()
    before = getattr(supervisor, "started", [])
    handed_back.set()
    supervisor._helpers[0].join()
    supervisor._start_again()

    assert (before, supervisor.started) == ([] if burst else [0], [0])


def test_hands_back_in_batches_and_without_backend() -> None:
    """As many in one call as the broker takes."""
    app = flaky_app(backend="none")
    held, _ = leases(app, 5)
    broker_of(app).limits = type(broker_of(app).limits)(max_batch=2)

    Supervisor(app, AppRef(target="tasks:app"))._hand_back(child_of(app), held)

    assert (counts(app), broker_of(app).wire.calls.count("settle")) == ({"ready": 5}, 3)


@pytest.mark.parametrize("engine", ["broker", "backend"])
def test_leases_end_by_themselves_if_an_engine_is_down(engine: str) -> None:
    """Handing back would have been quicker; that is all, and it is told."""
    app = flaky_app()
    down = seen(app, EngineDown)
    held, _ = leases(app, 1)
    child = child_of(app)
    child.run_table.enter(0, 1, time.monotonic())
    wire = broker_of(app).wire if engine == "broker" else backend_of(app).wire
    wire.cut = {"settle", "put"}

    Supervisor(app, AppRef(target="tasks:app"))._hand_back(child, held)

    assert [(event.doing, event.retry_in) for event in down] == [("hand messages back", 30.0)]
    assert counts(app) == {"leased": 1}


def test_renews_no_lease_of_a_body_past_its_time() -> None:
    """A grace after its limit; bodies without a limit, and those that wait for a slot, keep theirs."""
    app = make_app()
    held, _ = leases(app, 3, timeout=5.0)
    held[2] = HeldLease(3, *held[2].lease)
    child = child_of(app)
    child.run_table.enter(0, 1, time.monotonic() - 60, 5.0)
    child.run_table.enter(2, 3, time.monotonic() - 60)

    assert [held_lease.serial for held_lease in _renewable(child, held)] == [2, 3]


def test_blames_those_alone_because_of_which_it_killed() -> None:
    """What ran beside a body past its time goes back uncounted, and leaves no mark of a crash."""
    app = make_app()
    held, deliveries = leases(app, 3, timeout=5.0)
    child = child_of(app)
    child.run_table.enter(0, 1, time.monotonic() - 60, 5.0)
    child.run_table.enter(1, 2, time.monotonic())
    child.blamed = [1]

    Supervisor(app, AppRef(target="tasks:app"))._hand_back(child, held)

    marks = [entered_mark(delivery).key for delivery in deliveries]
    assert set(app.runtime.need_backend("test").get(marks)) == {marks[0]}
    assert sorted(delivery.crashes for delivery in take(app, 3)) == [0, 0, 1]


def test_keeps_what_a_body_did_to_its_own_process() -> None:
    """Its worker died after that crash was confirmed and before the message was settled: it counts (QK6)."""
    app = make_app()
    held, deliveries = leases(app, 2, apart=True)
    backend = app.runtime.need_backend("a test")
    backend.put([entered_mark(deliveries[0], seen=True), entered_mark(deliveries[1], seen=False)])
    child = child_of(app)
    child.run_table.enter(0, 1, time.monotonic())
    child.run_table.enter(1, 2, time.monotonic())

    Supervisor(app, AppRef(target="tasks:app"))._hand_back(child, held)

    marks = [entered_mark(delivery).key for delivery in deliveries]
    assert set(backend.get(marks)) == {marks[0]}


@pytest.mark.parametrize("burst", [False, True], ids=["worker", "burst"])
def test_replaces_no_process_that_dies_while_it_drains(*, burst: bool) -> None:
    """An operator takes it out of service, and a body that outlives its time limit must not undo that."""
    app = make_app()
    crashed = seen(app, WorkerCrashed)
    child = child_of(app)
    child.pipe.close()
    supervisor = Supervisor(app, AppRef(target="tasks:app"), burst=burst)
    listening, speaking = Pipe(duplex=False)
    with listening, speaking:
        child.pipe = listening
        speaking.send(Drains())
        supervisor._hear(child)
        supervisor._judge(child, -signal.SIGKILL, "was killed")

    assert [(event.name, event.again_in) for event in crashed] == [("host-1", None)]
    assert supervisor._restarts == {}


def not_portable(**settings: Any) -> Queuekit:
    """Return an app on a broker whose leases only the process that claimed can renew and settle."""
    app = make_app(**settings)
    app.runtime.broker.capabilities = attrs.evolve(app.runtime.broker.capabilities, portable_leases=False)
    return app


def test_hands_nothing_back_that_only_the_dead_process_could_settle() -> None:
    """Its leases end with its connections; what it ran is marked as entered all the same (QK6)."""
    app = not_portable()
    held, deliveries = leases(app, 2)
    child = child_of(app)
    child.run_table.enter(0, 1, time.monotonic())

    Supervisor(app, AppRef(target="tasks:app"))._hand_back(child, held)

    assert counts(app) == {"leased": 2}
    marks = [entered_mark(delivery).key for delivery in deliveries]
    assert list(app.runtime.need_backend("test").get(marks)) == [marks[0]]


def test_tells_how_a_process_ended_whose_memory_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread hands its messages back and releases the memory shared with it, at whatever moment it is done."""
    app = make_app()
    crashed = seen(app, WorkerCrashed)
    supervisor = Supervisor(app, AppRef(target="tasks:app"))
    child = child_of(app)
    process: Any = child.process
    process.wait = lambda: -signal.SIGKILL
    child.renewer, child.blamed = None, [1]
    (delivery,) = leases(app, 1)[1]
    child.leases.hold([(1, "default", delivery.id, delivery.token, 1, None, 0, 0, False, False)])
    supervisor._children[0] = child
    judge = supervisor._judge

    def late(*args: Any) -> None:
        supervisor._helpers[-1].join()
        judge(*args)

    monkeypatch.setattr(supervisor, "_judge", late)
    supervisor._handle_exit(child)

    assert [delivery.id in event.how for event in crashed] == [True]


@pytest.mark.parametrize("portable", [True, False], ids=["portable", "of-the-claimer"])
def test_renews_what_the_broker_lets_it_renew(*, portable: bool) -> None:
    """Where only the process that claimed can renew, there is no renewer here, and silence ends with the lease."""
    app = make_app(worker={"lease": 40}) if portable else not_portable(worker={"lease": 40})
    child = Supervisor(app, AppRef(target="tasks:app"))._make(0)
    try:
        found = (child.renewer is not None, child.longest_silence)
    finally:
        child.process.kill()
        child.process.wait()
        child.pipe.close()
        child.run_table.close()
        child.leases.close()

    assert found == (portable, math.inf if portable else 40.0)


def test_a_process_that_cannot_be_asked_about_is_not_stopped() -> None:
    """Where the system does not say, leases are renewed."""
    assert _is_stopped(os.getpid()) is False
    assert _is_stopped(2**30) is False


def test_a_word_to_a_process_that_is_gone_is_no_error() -> None:
    """Its end is heard elsewhere."""
    child = child_of(make_app())

    _say(child, Stop("a signal"))
    child.pipe.close()
    _say(child, Stop("a signal"))

    assert child.pipe.closed


def test_signals_wake_it_and_are_its_own_only_meanwhile() -> None:
    """Afterwards they go where they went before."""
    got: list[int] = []
    before = signal.getsignal(signal.SIGTERM)

    with _signals(lambda number, _frame: got.append(number)) as (wake, _):
        os.kill(os.getpid(), signal.SIGTERM)
        woken = wake.recv(10)

    assert (got, woken) == ([signal.SIGTERM], bytes([signal.SIGTERM]))
    assert signal.getsignal(signal.SIGTERM) == before


def test_signals_are_left_alone_in_another_thread() -> None:
    """They are the affair of the program that runs the supervisor there."""
    handlers: list[object] = []

    def inside() -> None:
        with _signals(lambda *_: None):
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()

    assert handlers == [before]


def no_such_thing(*_: object) -> int:
    """Fail as a call does that a system does not know, or refuses."""
    raise OSError(24, "Too many open files")


def test_shared_memory_is_as_large_as_a_file_may_be() -> None:
    """Where the usual size is too much, the least must do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with _memory(LeaseTable.SIZE, least=LeaseTable.LEAST) as number:
            limited = os.fstat(number).st_size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with _memory(LeaseTable.SIZE, least=LeaseTable.LEAST) as number:
        usual = os.fstat(number).st_size

    assert (limited, usual) == (LeaseTable.LEAST, LeaseTable.SIZE)


def test_shared_memory_can_be_a_file_that_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system knows no other; a hole in it would be found when the disk is full."""
    monkeypatch.setattr(os, "memfd_create", no_such_thing)

    with _memory(LeaseTable.SIZE, least=LeaseTable.LEAST) as number:
        found = os.fstat(number)

    assert (found.st_size, found.st_blocks * 512 >= LeaseTable.LEAST) == (LeaseTable.LEAST, True)


def test_a_process_that_the_system_refuses_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few times, with a pause; then it is given up, and nothing is left open."""
    app = make_app()
    crashed, gave_up = seen(app, WorkerCrashed), seen(app, WorkerGaveUp)
    supervisor = Supervisor(app, AppRef(target="tasks:app"))
    monkeypatch.setattr("queuekit.worker.supervisor._spawn", no_such_thing)
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())

    for _ in range(5):
        supervisor._start(0)

    assert [event.how for event in crashed] == ["cannot start: [Errno 24] Too many open files"] * 4
    assert [event.tries for event in gave_up] == [5]
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize(
    ("code", "blamed", "tries"),
    [
        pytest.param(1, None, [5], id="fails"),
        pytest.param(-signal.SIGSEGV, None, [5], id="crashes"),
        pytest.param(-signal.SIGKILL, [], [5], id="hangs"),
        pytest.param(-signal.SIGKILL, None, [], id="killed"),
        pytest.param(-signal.SIGTERM, None, [], id="terminated"),
    ],
)
def test_gives_up_on_a_process_that_cannot_start(code: int, blamed: list[int] | None, tries: list[int]) -> None:
    """But not on one that something else kills before it is ready: its next start may well succeed."""
    app = make_app()
    gave_up = seen(app, WorkerGaveUp)
    child = child_of(app)
    child.blamed = blamed
    supervisor = Supervisor(app, AppRef(target="tasks:app"))

    for _ in range(5):
        supervisor._judge(child, code, "ended")

    assert [event.tries for event in gave_up] == tries


def test_counts_only_starts_that_failed() -> None:
    """Five kills and one failed start are not six failed starts."""
    app = make_app()
    gave_up = seen(app, WorkerGaveUp)
    child = child_of(app)
    supervisor = Supervisor(app, AppRef(target="tasks:app"))

    for code in (*[-signal.SIGKILL] * 5, 1):
        supervisor._judge(child, code, "ended")

    assert gave_up == []


def test_a_stop_waits_for_no_engine_that_does_not_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where one is just being opened, and does not answer: the whole stop stays within its time."""
    app = make_app(worker={"drain": "0s"})
    answers = threading.Event()
    monkeypatch.setattr(app, "close", lambda: answers.wait(60))
    supervisor = Supervisor(app, AppRef(target="tasks:app"))

    supervisor.stop()
    code = supervisor.run()

    assert (code, answers.is_set()) == (0, False)
    answers.set()


def test_a_signal_while_engines_are_asked_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that was down and was not heard of since is not told to be back."""
    app = make_app()
    back = seen(app, EngineBack)
    supervisor = Supervisor(app, AppRef(target="unused:app"))
    answers = [UnavailableError("down")]

    def ask(_wake: object) -> UnavailableError | None:
        if answers:
            return answers.pop()
        supervisor.stop()
        return None

    monkeypatch.setattr(supervisor, "_ask_engines", ask)
    with _signals(lambda *_: None) as (wake, _notifier):
        answered = supervisor._engines_answer(wake)

    assert (answered, back) == (False, [])
