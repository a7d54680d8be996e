"""Hostile input by the million: no raw error, no hang, no growth. Ten minutes of CPU, a seventh for each.

``QUEUEKIT_TEST_FUZZ`` multiplies that, and ``QUEUEKIT_TEST_SEED`` repeats a run. What fails is kept in
``.hypothesis/fuzz``; once mended, it becomes a row of a test in ``tests/unit``.
"""

import contextlib
import logging
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, UniqueKey, chain, chord, every, group
from queuekit.backend import Backend, Record
from queuekit.broker import Place, QueueCounts
from queuekit.client.codec import decode
from queuekit.engines.memory.backend import MemoryBackend
from queuekit.envelope import Envelope, join_frame, split_frame
from queuekit.errors import DecodeError, QueuekitError
from queuekit.limits import Concurrency, Rate, arg
from queuekit.operations.admin import Admin
from queuekit.schedules.manager import scan
from queuekit.schedules.schedule import entry_key, progress_key
from queuekit.signature import Signature
from queuekit.urls import EngineURL
from support import commands
from support.calls import ENGINES, Calls, calls_on
from support.hostile import MINUTES, Fuzzer, bent, swapped, swapped_json
from support.scheduling import Crew
from support.settings import loader
from support.working import backend_of, burst, finish

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(7_200)]

BATCH = 50
_BURSTS = 20


def changed(data: bytes, chance: random.Random) -> bytes:
    """Return a frame whose header, payload or bytes are not what they were."""
    way = chance.randrange(3)
    if way == 0:
        return bent(data, chance)
    head, newline, payload = data.partition(b"\n")
    if way == 1:
        return swapped_json(head, chance) + newline + payload
    return head + newline + swapped_json(payload, chance)


def samples(calls: Calls) -> list[Envelope]:
    """Return messages of all kinds, as the app itself writes them."""
    add, total, echo = calls.add, calls.total, calls.echo
    options = add.s(1, 2).options(retries=3, timeout="5m", headers={"a": "b"}, priority=9, ignore_result=True)
    add.send(1, 2)
    calls.app.send(options)
    calls.app.send(add.s(1, 2).options(on_success=[echo.s()], on_error=[calls.told.s()]))
    chain(add.s(1, 2), add.s(3)).send()
    chord(group(add.s(n, n) for n in range(3)), total.s()).send()
    broker = calls.app.runtime.broker
    found: list[Envelope] = []
    while deliveries := broker.receive(["default"], limit=1, wait=0, lease=600):
        found.append(deliveries[0].envelope)
        finish(calls.app, deliveries[0])
    return found


@pytest.fixture
def calls() -> Iterator[Calls]:
    """The tasks of an app in memory."""
    made = calls_on(ENGINES["memory"](Path()))
    yield made
    made.app.close()


def test_messages(calls: Calls) -> None:
    """Whatever bytes a message has: it is read or refused, and a worker has an outcome for each."""
    seeds = samples(calls)
    fuzzer = Fuzzer("messages", allowed=(DecodeError,))
    accepted, broker = calls.app.runtime.accepted, calls.app.runtime.broker
    for chance in fuzzer.rounds():
        batch = []
        for number in range(BATCH):
            seed = chance.choice(seeds)
            id = f"f-{fuzzer.tried}-{number}"
            body = changed(seed.body.replace(seed.id.encode(), id.encode()), chance)
            envelope = Envelope(id=id, queue="default", body=body)
            fuzzer.attempt(body, partial(decode, envelope, accepted))
            batch.append(envelope)
        broker.send(batch)
        bodies = [envelope.body for envelope in batch]
        counts = settled(calls, partial(fuzzer.attempt, bodies))
        if counts.ready or counts.leased:
            fuzzer.failed(bodies, f"no outcome: {counts}")
        for place in (Place.DEAD, Place.DELAYED):
            broker.purge("default", place=place)
        # Results and the evidence of dead letters are kept for days: what grows is to be something else.
        for envelope in batch:
            calls.app.forget(envelope.id)


def settled(calls: Calls, attempt: Callable[[Callable[[], object]], None]) -> QueueCounts:
    """Work until nothing is ready and return the counts; a retry that comes due after the worker's last look is run."""
    broker = calls.app.runtime.broker
    left = _BURSTS
    while True:
        attempt(lambda: burst(calls.app))
        broker.purge("default", place=Place.DELAYED)
        counts, left = broker.counts(["default"])["default"], left - 1
        if not counts.ready or not left:
            return counts


def records(backend: Backend) -> list[Record]:
    """Return all records of a backend."""
    found: list[Record] = []
    for prefix in ("result:", "graph:", "cron:", "ticked:", "progress:", "worker:", "cancel:", "declares:"):
        cursor: str | None = None
        while True:
            page = backend.scan(prefix, cursor=cursor)
            found += page.items
            cursor = page.cursor
            if cursor is None:
                break
    return found


def looks(app: Queuekit, id: str) -> Iterator[Callable[[], object]]:
    """Yield all ways to look at the records of a message, a workflow, or the whole."""
    admin = Admin(app)
    yield lambda: getattr(app.result(id), "state", None)
    yield lambda: app.result(id).get(timeout=0)
    yield lambda: app.result(id)
    yield lambda: admin.show(id)
    yield admin.workers
    yield app.schedules.all
    yield app.schedules.set_aside
    yield lambda: list(scan(app.runtime))


@pytest.mark.parametrize("engine", ENGINES)
def test_records(engine: str, tmp_path: Path) -> None:
    """Whatever a record holds, on whatever engine: it is read, or refused in words."""
    calls = calls_on(ENGINES[engine](tmp_path))
    app, backend = calls.app, calls.app.runtime.need_backend("a test")
    add = calls.add
    sent: list[Any] = [add.send(1, 2), calls.boom.send("why"), chain(add.s(1, 2), add.s(3)).send()]
    sent += [chord(group(add.s(n, n) for n in range(3)), calls.total.s()).send(), group(add.s(1, 1)).send()]
    app.schedules.add("job", every("1h"), add.s(1, 2))
    burst(app)
    sound = records(backend)
    ids = [result.id for result in sent]
    fuzzer = Fuzzer(f"records-{engine}", allowed=(QueuekitError, TimeoutError))
    for chance in fuzzer.rounds():
        if fuzzer.tried > 40_000 / len(ENGINES):
            break
        record = chance.choice(sound)
        bad = attrs.evolve(record, body=changed(record.body, chance), ttl=600.0)
        fuzzer.attempt(bad, partial(backend.put, [bad]))
        for look in looks(app, chance.choice(ids)):
            fuzzer.attempt(bad, look)
        fuzzer.attempt(bad, partial(backend.put, [attrs.evolve(record, ttl=600.0)]))
    app.close()


KEYS = ("result:", "graph:", "merge:", "taken:", "slots:", "rate:", "limit:", "lock:", "paused", "cancel:", "cron:")
"""Starts of the keys of records that a sender or a worker reads."""


def merging(app: Queuekit) -> list[Callable[[], Any]]:
    """Declare tasks that have limits, or whose calls are merged, and return calls of them."""

    @app.task(name="one", limits=[Concurrency(1, key=arg("x"))])
    def one(x: int) -> int:
        return x

    @app.task(name="rated", limits=[Rate("500/s", name="api")])
    def rated(x: int) -> int:
        return x

    @app.task(name="newest", unique=UniqueKey(by="x", on_conflict="latest"))
    def newest(x: int) -> int:
        return x

    @app.task(name="quiet", unique=UniqueKey(by="x", on_conflict="debounce", quiet="20ms", max_wait="50ms"))
    def quiet(x: int) -> int:
        return x

    return [partial(task.send, 1) for task in (one, one, rated, newest, newest, quiet, quiet)]


class Unforeseen(logging.Handler):
    """Keeps the exceptions in the log that are not of queuekit."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exception of a record."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, Exception) and not isinstance(error, QueuekitError):
            self.errors.append(error)


@pytest.fixture
def unforeseen() -> Iterator[list[Exception]]:
    """The exceptions in the log that are not of queuekit."""
    handler = Unforeseen()
    logging.getLogger("queuekit").addHandler(handler)
    yield handler.errors
    logging.getLogger("queuekit").removeHandler(handler)


def test_records_at_work(calls: Calls, monkeypatch: pytest.MonkeyPatch, unforeseen: list[Exception]) -> None:
    """Whatever a record says that a sender or a worker reads: each message has an outcome, all errors are of ours."""
    app, add = calls.app, calls.add
    ways: list[Callable[[], Any]] = [
        *merging(app),
        partial(add.send, 1, 2),
        lambda: chain(add.s(1, 2), add.s(3)).send(),
    ]
    ways += [lambda: chord(group(add.s(n, n) for n in range(3)), calls.total.s()).send()]
    fuzzer = Fuzzer("records-at-work", allowed=(QueuekitError, TimeoutError))
    wrong: list[tuple[Record, bytes]] = []
    start, left = "", 0

    def read(record: Record) -> Record:
        nonlocal left
        if not left or not record.key.startswith(start):
            return record
        left -= 1
        wrong.append((record, changed(record.body, fuzzer.chance)))
        return attrs.evolve(record, body=wrong[-1][1])

    get = MemoryBackend.get
    monkeypatch.setattr(
        MemoryBackend, "get", lambda self, keys: {key: read(record) for key, record in get(self, keys).items()}
    )
    for chance in fuzzer.rounds():
        start, left = chance.choice(KEYS), 0
        ids = [way().id for way in chance.sample(ways, 4)]
        wrong.clear()
        unforeseen.clear()
        left = chance.choice((1, 2, 4))
        for way in chance.sample(ways, 3):
            fuzzer.attempt(wrong, way)
        fuzzer.attempt(wrong, partial(app.cancel, chance.choice(ids)))
        counts = settled(calls, partial(fuzzer.attempt, wrong))
        left = 0
        if counts.ready:  # what waits for a slot whose record is damaged is delivered again when its lease ends
            fuzzer.failed(wrong, f"no outcome: {counts}")
        if unforeseen:
            fuzzer.failed(wrong, f"in the log: {unforeseen[0]!r}", unforeseen[0])


def test_schedules() -> None:
    """Whatever the records of one schedule hold: another one ticks as if nothing were."""
    fuzzer = Fuzzer("schedules")
    for chance in fuzzer.rounds():
        crew = Crew()
        crew.app.schedules.add("job", every("10s"), Signature[Any]("t"))
        crew.hire()
        backend = backend_of(crew.app)
        crew.run(1)
        record = backend.get([entry_key("job")])[entry_key("job")]
        head, payload = split_frame(record.body)
        bodies = []
        for number in range(10):
            body = join_frame(swapped(head, chance), payload) if chance.random() < 0.7 else changed(record.body, chance)
            bodies.append(body)
            backend.put([attrs.evolve(record, key=entry_key(f"bad-{number}"), body=body)])
            progress = Record(key=progress_key(f"bad-{number}"), body=bent(b'{"v":1,"at":5.0,"sent":3}', chance))
            backend.put([attrs.evolve(progress, rank=chance.choice((0, 7, -5, 2**62)))])
        fuzzer.attempt(bodies, partial(_run, crew))
        headers = [split_frame(stored.envelope.body)[0].get("headers", {}) for stored in _ready(crew)]
        if sum(header.get("cron") == "job" for header in headers) < 2:
            fuzzer.failed(bodies, "the sound schedule has stopped")
        crew.app.close()


def _run(crew: Crew) -> None:
    crew.run(25)
    crew.app.schedules.all()
    crew.app.schedules.set_aside()


def _ready(crew: Crew) -> list[Any]:
    return list(crew.app.runtime.broker.peek("default", place=Place.READY, limit=10_000).items)


TOML = b"""\
app = "tasks:app"
broker = "redis://user:secret@host:6379/0?timeout=5s"
backend = "sqlite:///results.db"
results_expire = "1h"
default_queue = "default"
max_message_bytes = 1000000
[worker]
concurrency = 4
queues = ["high=3", "low"]
lease = "1m"
[log]
level = "INFO"
[plugins]
disable = ["x"]
prefer = {redis = "acme"}
[redis]
key_prefix = "q"
"""


def test_settings(tmp_path: Path) -> None:
    """Whatever a file, the environment or a mapping says: settings, or all that is wrong with them in words."""
    load = loader(tmp_path)
    fuzzer = Fuzzer("settings", allowed=(QueuekitError,))
    keys = ["broker", "worker.concurrency", "worker.queues", "log.level", "results_expire", "plugins.prefer", "x.y", ""]
    for chance in fuzzer.rounds():
        text = bent(TOML, chance)
        (tmp_path / "queuekit.toml").write_bytes(text)
        fuzzer.attempt(text, load)
        word = swapped(0, chance)
        name = f"QUEUEKIT_{chance.choice(keys).upper().replace('.', chance.choice(('__', '_')))}"
        environ = {name: str(word), "QUEUEKIT_BROKER": bent(b"sqlite:///x", chance).decode("utf-8", "replace")}
        (tmp_path / "queuekit.toml").write_bytes(b"")
        fuzzer.attempt(environ, partial(load, environ=environ))
        given = {chance.choice(keys): word, "worker": swapped({"concurrency": 4, "queues": ["a=1"]}, chance)}
        fuzzer.attempt(given, partial(load, arguments=given))


SECRET = "hunter2-hunter2"  # noqa: S105 - nobody's
URLS = [
    f"redis://user:{SECRET}@host:6379/0?timeout=5s",
    f"mongodb://user:{SECRET}@a:1,b:2/db?replicaSet=x&authMechanismProperties=y",
    f"sqs://key:{SECRET}@eu-west-1/shop?session_token=t",
    "sqlite:///folder/queue.db?busy_timeout=2",
    f"redis+sentinel://:{SECRET}@a:1,b:2/service/0",
    f"dynamodb+http://:{SECRET}@[::1]:8000/table",
]


def test_urls() -> None:
    """Whatever a URL is: taken apart, or refused in words; and its password is never printed."""
    fuzzer = Fuzzer("urls", allowed=(QueuekitError,))
    for chance in fuzzer.rounds():
        raw = chance.choice(URLS)
        start = raw.find(SECRET)
        head, tail = (raw[:start], raw[start + len(SECRET) :]) if start >= 0 else (raw, "")
        secret = SECRET if start >= 0 else ""
        tail = bent(tail.encode(), chance).decode("utf-8", "surrogateescape") if chance.random() < 0.7 else tail
        head = bent(head.encode(), chance).decode("utf-8", "surrogateescape") if chance.random() < 0.2 else head
        url = f"{head}{secret}{tail}"
        fuzzer.attempt(url, partial(EngineURL.parse, url))
        with contextlib.suppress(QueuekitError):
            parsed = EngineURL.parse(url)
            if parsed.password and SECRET in parsed.password and SECRET in f"{parsed!r}{parsed}":
                fuzzer.failed(url, "the password is printed")


COMMANDS = [
    ["send", "add", "1", "2"],
    ["send", "add", "x=1", "--wait", "--timeout", "0"],
    ["show", "ID"],
    ["cancel", "ID"],
    ["queues"],
    ["dlq", "ls"],
    ["dlq", "show", "ID"],
    ["dlq", "retry", "ID"],
    ["purge", "default", "--yes"],
    ["schedules", "add", "NAME", "every 1h", "add", "1"],
    ["schedules", "show", "NAME"],
    ["schedules", "next", "*/5 * * * *", "--tz", "Europe/Berlin", "-n", "2"],
    ["schedules", "remove", "NAME"],
    ["config", "show"],
    ["plugins", "check", "sqlite:///x.db"],
    ["check"],
    ["workers"],
]
EXITS = {0, 1, 2, 3, 4, 5}


def test_commands(tmp_path: Path) -> None:
    """Whatever is typed: an answer, or a mistake told in a few lines, with an exit code of ours."""
    tasks = "from queuekit import Queuekit\napp = Queuekit()\n@app.task\ndef add(x, y=1): return x\n"
    toml = 'app = "tasks:app"\nbroker = "sqlite:///queue.db"\n'
    commands.write(tmp_path, {"tasks.py": tasks, "queuekit.toml": toml})
    fuzzer = Fuzzer("commands")
    # Commands are run by a process of its own, whose CPU is told when it ends: so many take about as long as the rest.
    for chance in fuzzer.rounds():
        if fuzzer.tried >= 40 * MINUTES:
            break
        words = list(chance.choice(COMMANDS))
        place = chance.randrange(len(words))
        bad = bent(words[place].encode(), chance).decode("utf-8", "replace").replace("\0", "?")
        words[place] = chance.choice((bad, bad, str(swapped(0, chance)).encode("utf-8", "replace").decode()))
        words = [word.replace("\0", "?") for word in words]
        if words[0] in {"worker", "scheduler", "demo", "events"}:
            continue
        fuzzer.tried += 1
        done = commands.queuekit(*words, folder=tmp_path)
        if done.returncode not in EXITS or "Traceback" in done.stderr + done.stdout:
            fuzzer.failed(words, f"exit code {done.returncode}: {done.stderr[-400:]}")
