"""Metrics of workers and queues: figures equal what happened, whoever asks, and no label grows with the traffic."""

import json
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit import Fixed, Queuekit
from queuekit.broker import Place, QueueCounts
from queuekit.errors import ConfigError, UnavailableError
from queuekit.events import (
    ChildRecycled,
    EngineDown,
    LimitedMessage,
    MessageFacts,
    MessagesLimited,
    MessagesSent,
    MessagesSettled,
    SettledMessage,
    TickSent,
    TicksMissed,
    WorkerRecycled,
)
from queuekit.ids import new_id
from queuekit.limiting.rates import slowed
from queuekit.limiting.slot_store import Slots, Wish
from queuekit.limiting.slots import SlotKey, Waiter
from queuekit.limits import Concurrency, Rate, arg
from support.commands import queuekit
from support.fleet import Fleet
from support.waiting import wait_until
from support.working import burst

pytest.importorskip("queuekit_prometheus", reason="pip install -e plugins/queuekit-prometheus prometheus-client")

from queuekit_prometheus.command import QueueCollector
from queuekit_prometheus.exposition import TallyCollector, serve
from queuekit_prometheus.processes import Collected, Reporter
from queuekit_prometheus.tally import BOUNDS, ProcessTally, from_json, to_json
from support.scraping import Samples, samples, scrape

FILES = Path(__file__).parents[2] / "plugins" / "queuekit-prometheus" / "src" / "queuekit_prometheus" / "files"


def by_outcome(found: Samples) -> dict[tuple[str, str], float]:
    """Return how often each task ended how."""
    ended = {(name, *dict(labels).values()): value for (name, labels), value in found.items()}
    return {(key[3], key[1]): value for key, value in ended.items() if key[0] == "queuekit_tasks_total"}


def row(task: str = "t", outcome: str = "done", *, reason: str = "", duration: float | None = 0.02) -> SettledMessage:
    """Return a delivery that ended."""
    return SettledMessage(new_id(), task, "q", 0, outcome, reason, duration, None if duration is None else 0.001)


def settle(tally: ProcessTally, *rows: SettledMessage) -> None:
    """Let *rows* end; tasks that have run are known."""
    tally(MessagesSettled(worker="w", messages=rows))


@pytest.fixture
def app() -> Iterator[Queuekit]:
    """Return an app on an engine in memory."""
    app = Queuekit(broker=f"memory://{new_id()}", worker={"concurrency": 4}, log={"level": "CRITICAL"})
    yield app
    app.close()


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.full)])
def test_a_scrape_equals_the_ledger(app: Queuekit, count: int) -> None:
    """Thousands of tasks with failures: each figure of a real scrape is what the worker's statistics say."""
    tally = ProcessTally()
    app.events.subscribe(tally, to=tuple(tally.listeners))

    @app.task(name="odd", retries=1, retry=Fixed(0), ignore_result=True)
    def odd(number: int) -> None:
        if number % 10 == 0:
            raise ValueError("no")

    results = app.send_many(odd.s(number) for number in range(count))
    worker = burst(app)
    server, thread = serve(TallyCollector(tally.snapshot), port=0, host="127.0.0.1")
    try:
        found = scrape(f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

    ran = {name: count for name, count in worker.stats.items() if name != "returned"}  # handed back, and fetched again
    assert (len(results), ran) == (count, {"done": count * 9 // 10, "retried": count // 10, "failed": count // 10})
    assert by_outcome(found) == {("odd", name): count for name, count in worker.stats.items()}
    on, dead = (("queue", "default"), ("task", "odd")), (("queue", "default"), ("reason", "failed"), ("task", "odd"))
    assert found["queuekit_messages_sent_total", on] == count
    assert found["queuekit_dead_letters_total", dead] == count // 10
    assert found["queuekit_task_duration_seconds_count", on] == count * 11 // 10
    assert found["queuekit_task_duration_seconds_bucket", (("le", "+Inf"), *on)] == count * 11 // 10
    assert found["queuekit_task_wait_seconds_count", on] == count * 11 // 10


def test_counts_what_schedules_engines_and_processes_do() -> None:
    """Ticks by what became of them, calls without an answer by operation alone, processes by why they were replaced."""
    tally = ProcessTally()

    tally(TickSent(schedule="s", at=1.0, id="id-1", late=0.2))
    tally(TicksMissed(schedule="s", count=3, first=1.0, last=3.0))
    tally(EngineDown(doing="begin shop.mail", error="refused", retry_in=1.0))
    tally(WorkerRecycled(worker="w", replacement="x", reason="age", value=1.0, bound=1.0))
    tally(ChildRecycled(worker="w", pid=7, reason="rss", value=2.0, bound=1.0))
    tally(MessagesSent(messages=(MessageFacts("id-1", "t", "q"), MessageFacts("id-2", "t", "q", 0, duplicate=True))))

    found = {
        (metric.name, *sample.labels.values()): sample.value
        for metric in TallyCollector(tally.snapshot).collect()
        for sample in metric.samples
        if not sample.name.endswith("_bucket")
    }
    assert found["queuekit_schedule_ticks", "missed"] == 3
    assert found["queuekit_engine_errors", "begin"] == 1
    assert (found["queuekit_recycled", "worker", "age"], found["queuekit_recycled", "child", "rss"]) == (1, 1)
    assert found["queuekit_messages_sent", "q", "t"] == 1


def test_counts_what_limits_let_wait() -> None:
    """By limit alone."""
    tally = ProcessTally()
    rows = [LimitedMessage(new_id(), "t", "q", 0, limit, None) for limit in ("crm", "crm", "smtp")]

    tally(MessagesLimited(worker="w", messages=tuple(rows)))

    assert tally.snapshot() == {("limited", "crm"): 2, ("limited", "smtp"): 1}


def test_the_exporter_says_what_limits_hold(app: Queuekit) -> None:
    """Slots, lines and delays of all keys of a limit together; no label has a key, whoever it names."""
    app.task(name="pay", limits=[Concurrency(1, key=arg("who"), name="crm")])(lambda who: who)
    app.task(name="mail", limits=[Rate("1/h", key=arg("who"), name="smtp")])(lambda who: who)
    runtime, now = app.runtime, app.runtime.now()
    backend = runtime.need_backend("a test")
    slots = Slots(backend, runtime.broker, lease=30)
    wishes = [
        Wish(Waiter("", new_id(), "", 1), (SlotKey("crm", who, Concurrency(1)),)) for who in ("ann", "ann", "bob")
    ]
    slots.acquire(wishes, now)
    backend.put([slowed("smtp", "ann", until=now + 500, seconds=500)])

    rows = [one for metric in QueueCollector(app).collect() for one in metric.samples if "limit" in one.labels]

    found = {(one.name.removeprefix("queuekit_limit_"), one.labels["limit"]): round(one.value) for one in rows}
    assert found.pop(("delay_seconds", "smtp")) in {499, 500}
    assert found == {
        ("slots_held", "crm"): 2,
        ("slots_held", "smtp"): 0,
        ("waiting", "crm"): 1,
        ("waiting", "smtp"): 0,
        ("delay_seconds", "crm"): 0,
        ("slowed_keys", "crm"): 0,
        ("slowed_keys", "smtp"): 1,
    }
    assert {name for one in rows for name in one.labels} == {"limit"}


def test_the_exporter_needs_no_backend_for_queues(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer of the backend it says nothing about limits, and all about queues."""
    monkeypatch.setattr(app.runtime.need_backend("a test"), "scan", raising(UnavailableError("no answer")))

    names = {one.name for metric in QueueCollector(app).collect() for one in metric.samples}

    assert {"queuekit_broker_up", "queuekit_queue_messages"} <= names
    assert not [name for name in names if "limit" in name]


def test_no_message_can_invent_a_label() -> None:
    """The task of a message that never ran is counted under its name only if the worker knows it."""
    tally = ProcessTally()

    settle(tally, row("known"), *(row(f"invented-{n}", "held", duration=None) for n in range(50)))
    settle(tally, row("known", "expired", duration=None))

    tasks = {key[1:]: count for key, count in tally.snapshot().items() if key[0] == "tasks"}
    assert tasks == {("q", "known", "done"): 1, ("q", "other", "held"): 50, ("q", "known", "expired"): 1}


def test_labels_are_bounded() -> None:
    """Beyond a thousand tasks the rest is one."""
    tally = ProcessTally()

    settle(tally, *(row(f"t{n}") for n in range(1_500)))

    series = {key for key in tally.snapshot() if key[0] == "tasks"}
    assert len(series) == 1_001
    assert tally.snapshot()["tasks", "other", "other", "done"] == 500


def test_labels_are_none_that_grow() -> None:
    """No metric is labelled with an id, a host, a process or an argument."""
    tally = ProcessTally()
    settle(tally, row(), row(outcome="lost"), row(outcome="failed", reason="failed"))

    labels = {
        name for metric in TallyCollector(tally.snapshot).collect() for one in metric.samples for name in one.labels
    }

    assert labels == {"queue", "task", "outcome", "reason", "le", "version"}


def test_lost_leases_are_counted_by_queue() -> None:
    """From the deliveries that ended so, each once."""
    tally = ProcessTally()
    settle(tally, row("a", "lost"), row("b", "lost"), row("a"))

    (lost,) = [metric for metric in TallyCollector(tally.snapshot).collect() if metric.name == "queuekit_leases_lost"]

    assert [(one.labels, one.value) for one in lost.samples if one.name.endswith("_total")] == [({"queue": "q"}, 2)]


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.0051, 3_600.0, 1e9])
def test_a_bucket_holds_what_is_at_most_its_bound(seconds: float) -> None:
    """As Prometheus defines ``le``."""
    tally = ProcessTally()
    settle(tally, row(duration=seconds))

    (run,) = [one for one in TallyCollector(tally.snapshot).collect() if one.name == "queuekit_task_duration_seconds"]

    buckets = {one.labels["le"]: one.value for one in run.samples if one.name.endswith("_bucket")}
    assert buckets == {**{f"{bound:g}": float(seconds <= bound) for bound in BOUNDS}, "+Inf": 1.0}


def test_processes_are_added_and_none_is_counted_twice() -> None:
    """One that has ended leaves its numbers, and a scrape while it does sees each once."""
    tally, own = ProcessTally(), ProcessTally()
    collected = Collected(own.snapshot)
    reporter = Reporter(collected.folder, tally)
    settle(own, row())
    settle(tally, row(), row())
    key = ("tasks", "q", "t", "done")

    sums = [collected.snapshot()[key]]
    settle(tally, row())
    sums.append(collected.snapshot()[key])
    reporter.close()
    sums += [collected.snapshot()[key] for _ in range(2)]
    folder = Path(collected.folder)
    collected.close()

    assert sums == [3, 4, 4, 4]
    assert (reporter.thread.is_alive(), folder.exists()) == (False, False)


def test_a_killed_process_counts_on() -> None:
    """What it answered last stays, so that no counter goes back; its load is gone with it."""
    tally = ProcessTally()
    collected = Collected(ProcessTally().snapshot)
    with subprocess.Popen(["true"]) as process:
        pid = process.pid
    settle(tally, row())
    tally.load = lambda: {"running": 1}
    vars(collected)["_seen"][str(pid)] = tally.snapshot()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(Path(collected.folder, f"{pid}.sock")))

    found = [collected.snapshot() for _ in range(2)]
    left_over = [*Path(collected.folder).iterdir()]
    collected.close()

    assert [one["tasks", "q", "t", "done"] for one in found] == [1, 1]
    assert ("load", "running") not in found[0]
    assert left_over == []


def test_processes_report_whatever_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path may be longer than that of a socket may be."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    tally = ProcessTally()
    settle(tally, row())
    collected = Collected(ProcessTally().snapshot)

    reporter = Reporter(collected.folder, tally)
    found = collected.snapshot()
    reporter.close()
    collected.close()

    assert found["tasks", "q", "t", "done"] == 1


def test_an_address_in_use_is_named() -> None:
    """The address and the reason, for a worker and for the command that serves queues."""
    collector = TallyCollector(ProcessTally().snapshot)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot serve metrics on 127\.0\.0\.1:{port}: Address already in use"):
            serve(collector, port=port, host="127.0.0.1")


def test_numbers_survive_the_way_between_processes() -> None:
    """Counts stay whole numbers, sums stay exact."""
    tally = ProcessTally()
    settle(tally, row(duration=0.1), row(duration=0.2))

    assert from_json(to_json(tally.snapshot())) == tally.snapshot()


def test_a_worker_serves_the_metrics_of_all_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes are one exposition; its figures are those of the ledger."""
    from support import fault_tasks

    fleet = Fleet(tmp_path, fault_tasks.app, broker=f"sqlite:///{tmp_path}/queue.db")
    (tmp_path / "counted.py").write_text(
        'from support.fault_tasks import app\n\napp.configure({"prometheus": {"port": 0}})\n'
    )
    try:
        group = fleet.start_ready(app="counted:app", folder=tmp_path, processes=2, concurrency=2)
        ids = [one.id for one in fleet.app.send_many(fault_tasks.nap.s(0) for _ in range(60))]
        fleet.drained()
        (address,) = re.findall(r"metrics  http://(\S+)/metrics", group.read_log())
        name, nap = "queuekit_tasks_total", fault_tasks.nap.name
        on = (("outcome", "done"), ("queue", "default"), ("task", nap))
        wait_until(lambda: scrape(address).get((name, on)) == len(ids), what=lambda: str(scrape(address)))
        found = scrape(address)
    finally:
        fleet.close()

    assert found["queuekit_worker_messages", (("state", "running"),)] == 0
    assert found["queuekit_build_info", (("version", version("queuekit")),)] == 1


def test_the_exporter_says_what_the_broker_says(tmp_path: Path) -> None:
    """Messages by state and the age of the oldest, for queues of workers and others."""
    (tmp_path / "tasks.py").write_text(
        'from queuekit import Queuekit\n\napp = Queuekit(broker="sqlite:///q.db")\n\n\n'
        "@app.task(queue='mail')\ndef send() -> None: ...\n"
    )
    assert queuekit("--app", "tasks:app", "send", "send", folder=tmp_path).returncode == 0

    done = queuekit("--app", "tasks:app", "metrics", "--once", folder=tmp_path)

    found = samples(done.stdout)
    assert found["queuekit_broker_up", ()] == 1
    assert found["queuekit_queue_messages", (("queue", "mail"), ("state", "waiting"))] == 1
    assert found["queuekit_queue_messages", (("queue", "default"), ("state", "waiting"))] == 0
    assert found["queuekit_queue_oldest_age_seconds", (("queue", "mail"),)] >= 0


def test_the_exporter_says_that_the_broker_is_down(tmp_path: Path) -> None:
    """It shows no figures that might be stale."""
    (tmp_path / "tasks.py").write_text(
        'from queuekit import Queuekit\n\napp = Queuekit(broker="sqlite:////nowhere/at/all/q.db")\n'
    )

    done = queuekit("--app", "tasks:app", "metrics", "--once", folder=tmp_path)

    assert samples(done.stdout) == {("queuekit_broker_up", ()): 0.0}


@pytest.mark.parametrize(
    ("url", "code", "text"),
    [
        pytest.param("redis://h:port/0", 3, "broker", id="malformed"),
        pytest.param("sqlit:///q.db", 5, "Did you mean 'sqlite'", id="unknown-scheme"),
        pytest.param("memory://", 3, "memory", id="of-one-process"),
    ],
)
def test_the_exporter_ends_with_what_is_wrong_with_the_settings(url: str, code: int, text: str, tmp_path: Path) -> None:
    """Only a broker that does not answer is down: what no scrape can mend ends the command as it ends all others."""
    (tmp_path / "tasks.py").write_text(f"from queuekit import Queuekit\n\napp = Queuekit(broker={url!r})\n")

    done = queuekit("--app", "tasks:app", "metrics", "--once", folder=tmp_path)
    other = queuekit("--app", "tasks:app", "queues", folder=tmp_path)

    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == other.stderr
    assert text in done.stderr


def test_the_exporter_asks_a_broker_that_only_counts(app: Queuekit, monkeypatch: pytest.MonkeyPatch) -> None:
    """As SQS and RabbitMQ do, which list no queues: about those of settings and tasks; and it says if they are down."""
    app.task(name="send", queue="mail")(lambda: None).send()
    broker = app.runtime.broker
    monkeypatch.setattr(broker, "capabilities", attrs.evolve(broker.capabilities, inspect=False, counts=True))
    monkeypatch.setattr(broker, "queues", None)

    def found() -> Samples:
        rows = [one for metric in QueueCollector(app).collect() for one in metric.samples]
        return {(one.name, tuple(sorted(one.labels.items()))): one.value for one in rows}

    answered = found()
    monkeypatch.setattr(broker, "counts", raising(UnavailableError("no answer")))

    assert answered["queuekit_broker_up", ()] == 1
    assert answered["queuekit_queue_messages", (("queue", "mail"), ("state", "waiting"))] == 1
    assert answered["queuekit_queue_messages", (("queue", "default"), ("state", "waiting"))] == 0
    assert found() == {("queuekit_broker_up", ()): 0}


def raising(error: Exception) -> Callable[..., Any]:
    """Return a function that raises *error*."""

    def function(*_args: object, **_options: object) -> None:
        raise error

    return function


def test_nothing_is_counted_where_nobody_asks() -> None:
    """Installed without a port, the plugin costs a worker nothing."""
    app = Queuekit(broker="memory://")

    assert app.runtime.events.wants(MessagesSettled) is False
    app.close()


def test_dashboard_and_alerts_use_metrics_that_exist() -> None:
    """Each name in their queries is one that is exposed."""
    tally = ProcessTally()
    settle(tally, row())
    names = {metric.name for metric in TallyCollector(tally.snapshot).collect()}
    names |= {"queuekit_queue_messages", "queuekit_queue_oldest_age_seconds", "queuekit_broker_up"}
    names |= {f"queuekit_limit_{name}" for name in ("slots_held", "waiting", "delay_seconds", "slowed_keys")}
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    text = "\n".join(
        [
            *queries,
            *re.findall(r"^ +(?:expr: |/ |and |max by|sum by).*", (FILES / "alerts.yml").read_text(), re.MULTILINE),
        ]
    )

    used = {re.sub(r"_(total|bucket)$", "", name) for name in re.findall(r"\bqueuekit_\w+", text)}

    assert used <= names
    assert len(queries) >= len(dashboard["panels"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="apt-get install prometheus, for promtool")
def test_promtool_accepts_the_alerts() -> None:
    """As Prometheus reads them."""
    done = subprocess.run(["promtool", "check", "rules", str(FILES / "alerts.yml")], capture_output=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="apt-get install prometheus, for promtool")
def test_promtool_accepts_the_metrics(app: Queuekit) -> None:
    """Names, units and types are as they should be."""
    from prometheus_client import CollectorRegistry, generate_latest

    tally, registry = ProcessTally(), CollectorRegistry(auto_describe=False)
    settle(tally, row(), row(outcome="lost"))
    app.task(name="pay", limits=[Concurrency(1, name="crm")])(lambda: None)
    registry.register(TallyCollector(tally.snapshot))
    registry.register(QueueCollector(app))

    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=generate_latest(registry),
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_registered_tasks_are_known() -> None:
    """A task that the app declares has its name as a label before it ever runs."""
    from queuekit_prometheus.tally import TALLY

    app = Queuekit(broker=f"memory://{new_id()}", prometheus={"port": 0})
    app.task(name="declared")(print)

    app.runtime.close()

    assert "declared" in TALLY.known


def test_a_scrape_reports_lower_bounds_and_leaves_out_what_nobody_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue too long to count stays above the limit of an alert; 0 would be a lie."""
    app = Queuekit(broker="memory://")
    found = QueueCounts(ready=1_000, at_least=frozenset({Place.READY, Place.DEAD}))
    unknown = QueueCounts(at_least=frozenset(Place))
    monkeypatch.setattr(type(app.runtime.broker), "queues", lambda _broker: ["long", "slow"])
    monkeypatch.setattr(type(app.runtime.broker), "counts", lambda _broker, _names: {"long": found, "slow": unknown})

    rows = [one for metric in QueueCollector(app).collect() for one in metric.samples if "queue" in one.labels]

    messages = {(one.labels["queue"], one.labels["state"]): one.value for one in rows if "state" in one.labels}
    assert messages == {("long", "waiting"): 1_000, ("long", "delayed"): 0, ("long", "running"): 0}
    assert [one.labels["queue"] for one in rows if "state" not in one.labels] == []
