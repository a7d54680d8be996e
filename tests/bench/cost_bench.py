"""Measure what queuekit costs beside the least work that does the same, and beside peers, on Redis and SQLite.

``taskset -c 0 python tests/bench/cost_bench.py [--rounds 5] [--only sends flight drains sqlite starts]``. All ways take
turns. A figure is the CPU of all processes that take part, the server too: on one core, that is what a rate is made of,
and a busy machine changes it little. For each row: medians in microseconds, and the median, the lowest and the highest
of the ratios of the rounds; a way that fails costs ``inf``. Nothing here judges.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import redis  # noqa: E402 - after the path
from redis_bench import BODY, PEERS, RECORD, SAME_WRITES, WAITING, _with_record  # noqa: E402 - ...
from run import _process  # noqa: E402 - ...

from support.redis_servers import RedisServer, need  # noqa: E402 - ...

Costs = dict[str, float]
"""Way -> seconds of CPU for one call or task, of one round."""
DAY = 86_400_000
PROGRAM = "from queuekit_start import main; main()"
"""``queuekit``, as it is installed."""


def main() -> None:
    """Run all rounds of all parts and print a table of each."""
    options = _options()
    if not options.fast:
        sys.path.insert(0, str(_without()))
    for part in options.only:
        rounds: list[Costs] = []
        with tempfile.TemporaryDirectory(prefix="queuekit-bench-") as name, PARTS[part](Path(name)) as ways:
            for _ in range(options.rounds):
                rounds.append({way: cost() for way, cost in ways.items()})
                print(".", end="", flush=True, file=sys.stderr)
        print(f"\n{part}{'':>46}us{'beside':>10}{'ratio':>8}   lowest, highest")
        for row in ROWS[part]:
            _print_row(*row, rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--fast", action="store_true", help="send with the extra `fast`, which is hidden otherwise")
    return parser.parse_args()


def _print_row(title: str, ours: str, other: str, rate: bool, rounds: list[Costs]) -> None:  # noqa: FBT001 - a row
    """Print how *ours* compares with *other*: as time, or as a rate."""
    ratios = [one[other] / one[ours] if rate else one[ours] / one[other] for one in rounds]
    us, beside = (statistics.median(one[way] for one in rounds) * 1e6 for way in (ours, other))
    spread = f"{min(ratios):.2f}, {max(ratios):.2f}"
    print(f"{title:<40}{us:>9.1f}{beside:>10.1f}{statistics.median(ratios):>8.2f}   {spread}")


# -- what processes cost


def spent(*pids: int) -> float:
    """Return the seconds of CPU of processes and of those that they started, as far as they still run."""
    total, left = 0, list(pids)
    while left:
        threads = Path(f"/proc/{left.pop()}/task")
        for thread in os.listdir(threads):  # noqa: PTH208 - names
            try:
                total += int((threads / thread / "schedstat").read_text().split()[0])
                left += map(int, (threads / thread / "children").read_text().split())
            except OSError:  # it has just ended
                pass
    return total / 1e9


def _cost(pids: Iterable[int], count: int, work: Callable[[int], object]) -> float:
    before, begun = spent(*pids), time.process_time()
    work(count)
    return (spent(*pids) - before + time.process_time() - begun) / count


# -- sends


@contextmanager
def _server(folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(need("valkey"), folder, arguments=["--save", ""]).start()
    os.environ["QUEUEKIT_BROKER"] = server.url
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _sends(folder: Path) -> Iterator[dict[str, Callable[[], float]]]:
    """Yield ways to send; each block of them begins with an empty server."""
    with _server(folder) as server:
        import benchapp

        client = redis.Redis(port=server.port)
        same = client.register_script(SAME_WRITES)
        app = benchapp.app
        app.configure()
        numbers = itertools.count()
        late, late_on = (task.options(delay=3600) for task in (benchapp.silent, benchapp.noop))

        def bulk(task: Any, count: int) -> object:
            return app.send_many(task.s(next(numbers)) for _ in range(count))

        ones: dict[str, Callable[[], object]] = {
            "lpush": lambda: client.lpush("raw", BODY),
            "same": lambda: same(keys=["{s}"], args=[str(next(numbers)), BODY]),
            "same on": lambda: _with_record(same, next(numbers)),
            "send": lambda: benchapp.silent.send(next(numbers)),
            "send on": lambda: benchapp.noop.send(next(numbers)),
            "late": lambda: late.send(next(numbers)),
            "late on": lambda: late_on.send(next(numbers)),
        }
        ways: dict[str, tuple[int, Callable[[int], object]]] = {
            **{key: (1_000, partial(_repeat, one)) for key, one in ones.items()},
            "many": (10_000, partial(bulk, benchapp.silent)),
            "many on": (10_000, partial(bulk, benchapp.noop)),
            "piped": (10_000, lambda count: _piped(client, count, lambda pipe: pipe.lpush("raw", BODY))),
            "same many": (10_000, lambda count: _piped(client, count, _same(same, numbers))),
            "same many on": (10_000, lambda count: _piped(client, count, _same(same, numbers, DAY))),
        }
        with asyncio.Runner() as runner:
            for key, one in {"asend": benchapp.silent.asend, "saq": _saq(server.url)}.items():
                for width in (1, 50, 200):
                    ways[f"{key} {width}"] = (2_000, partial(_at_once, runner, one, numbers, width))
            yield {way: partial(_emptied, client, server.pid, count, work) for way, (count, work) in ways.items()}
        app.close()


def _emptied(client: Any, pid: int, count: int, work: Callable[[int], object]) -> float:
    client.flushall()
    work(20)  # a script is loaded, and a queue is known
    return _cost([pid], count, work)


def _repeat(one: Callable[[], object], count: int) -> None:
    for _ in range(count):
        one()


def _piped(client: Any, count: int, put: Callable[[Any], object]) -> None:
    for _ in range(max(1, count // 100)):
        with client.pipeline(transaction=False) as pipe:
            for _ in range(100):
                put(pipe)
            pipe.execute()


def _same(script: Any, numbers: Iterator[int], expiry: int | None = None) -> Callable[[Any], object]:
    def put(pipe: Any) -> object:
        number = str(next(numbers))
        if expiry is None:
            return pipe.evalsha(script.sha, 1, "{p}", number, BODY)
        return pipe.evalsha(script.sha, 2, "{q}", f"{{q}}:{number}", number, BODY, RECORD, expiry)

    return put


def _saq(url: str) -> Callable[[int], Any]:
    from saq import Queue

    queue: list[Any] = []  # it belongs to the loop in which it is made

    async def send(number: int) -> None:
        if not queue:
            queue.append(Queue.from_url(url, max_concurrent_ops=50))
        await queue[0].enqueue("noop", number=number)

    return send


def _at_once(runner: asyncio.Runner, one: Callable[[int], Any], numbers: Iterator[int], width: int, count: int) -> None:
    """Send *count*, of which *width* are under way at any time."""

    async def some() -> None:
        for _ in range(max(1, count // width)):
            await one(next(numbers))

    async def all_of_them() -> None:
        await asyncio.gather(*(some() for _ in range(width)))

    runner.run(all_of_them())


@contextmanager
def _flight(folder: Path) -> Iterator[dict[str, Callable[[], float]]]:
    """Yield ways to send 10,000 messages that are all under way at once, from one loop."""
    with _server(folder) as server:
        import benchapp

        client, numbers = redis.Redis(port=server.port), itertools.count()
        app = benchapp.app
        app.configure()
        wide = partial(_of_taskiq, server.url, pool=None)
        bounded = partial(_of_taskiq, server.url, pool=50)
        ones: dict[str, Callable[[], Callable[[int], Any]]] = {
            "asend": lambda: benchapp.silent.asend,
            "saq": partial(_saq, server.url),
            "taskiq": wide,
            "pool": bounded,
        }
        with asyncio.Runner() as runner:
            yield {way: partial(_wide, runner, client, server.pid, made(), numbers) for way, made in ones.items()}
        app.close()


WIDTH = 10_000
"""Sends under way at once."""


def _wide(runner: asyncio.Runner, client: Any, pid: int, one: Callable[[int], Any], numbers: Iterator[int]) -> float:
    """Return the CPU of a send; infinite for a way that fails."""
    try:
        return _emptied(client, pid, WIDTH, partial(_at_once, runner, one, numbers, WIDTH))
    except Exception as error:  # noqa: BLE001 - of a peer
        print(f" {type(error).__name__}", end="", flush=True, file=sys.stderr)
        return math.inf


def _of_taskiq(url: str, *, pool: int | None) -> Callable[[int], Any]:
    """Return what sends by taskiq, with its usual pool of connections, or one of *pool*."""
    from taskiq_redis import ListQueueBroker

    options: dict[str, Any] = {} if pool is None else {"max_connection_pool_size": pool}
    broker = ListQueueBroker(url, queue_name="bench", **options)
    task = broker.task(task_name="nothing")(_nothing)
    return task.kiq


# -- drains


@contextmanager
def _drains(folder: Path) -> Iterator[dict[str, Callable[[], float]]]:
    """Yield ways to drain a backlog on Redis."""
    with _server(folder) as server:
        client = redis.Redis(port=server.port)
        ways: dict[str, Callable[[], float]] = {}
        for stored, off in ((False, ""), (True, " on")):
            ways[f"raw{off}"] = partial(_raw_drain, client, server.pid, stored=stored)
            for peer in DRAINED:
                ways[f"{peer}{off}"] = partial(_peer_drain, peer, client, server, stored=stored)
            for kind, options in _KINDS.items():
                ways[f"{kind}{off}"] = partial(_drain, _redis_left(client), [server.pid], kind, stored, *options)
        yield ways


DRAINED = ("huey", "dramatiq", "taskiq", "saq", "celery")
"""The peers whose workers drain a backlog."""
_KINDS: dict[str, list[str]] = {"pure": [], "fast": [], "async": ["-c", "100"]}


def _redis_left(client: Any) -> Callable[[], int]:
    def left() -> int:
        with client.pipeline(transaction=False) as pipe:
            for place in ("ready", "leased"):
                pipe.zcard(f"queuekit:{{default}}:{place}")
            return int(sum(pipe.execute()))

    return left


def _drain(left: Callable[[], int], servers: list[int], kind: str, stored: bool, *options: str) -> float:  # noqa: FBT001
    import benchapp

    app = benchapp.app
    app.configure()
    app.runtime.broker.purge("default")
    names = ("silent", "noop") if kind != "async" else ("asilent", "anoop")
    task = getattr(benchapp, names[stored])
    app.send_many(task.s(number) for number in range(20_000))
    with _worker(kind != "pure", *options) as pid:
        cost = _middle(left, [pid, *servers], 20_000)
    app.close()
    return cost


@contextmanager
def _worker(fast: bool, *options: str) -> Iterator[int]:  # noqa: FBT001 - ...
    """Run a worker and yield its pid, once it has run something."""
    paths = [str(HERE), *([] if fast else [str(_without())])]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "QUEUEKIT_LOG__LEVEL": "WARNING"}
    command = [sys.executable, "-c", PROGRAM, "worker", "benchapp:app", *options]
    with _process(command, environ) as process:
        yield process.pid


def _without() -> Path:
    """Return a folder in which msgspec cannot be imported."""
    folder = Path(tempfile.gettempdir(), "queuekit-bench-without")
    folder.mkdir(exist_ok=True)
    (folder / "msgspec.py").write_text("raise ImportError('hidden')\n", encoding="utf-8")
    return folder


def _middle(left: Callable[[], int], pids: list[int], count: int) -> float:
    """Return the CPU of a task between the first tenth of a drain and the last one."""
    while (begun := left()) > 0.9 * count:
        time.sleep(0.005)
    before = spent(*pids)
    while (ended := left()) > 0.1 * count:
        time.sleep(0.02)
    return (spent(*pids) - before) / (begun - ended)


def _raw_drain(client: Any, pid: int, *, stored: bool) -> float:
    """Take a hundred bodies at a time, read header and arguments, call, and store a hundred results."""
    client.flushall()
    _piped(client, 20_000, lambda pipe: pipe.lpush("raw", BODY))
    expires = time.time() + 3600

    def drain(_count: int) -> None:
        while bodies := client.rpop("raw", 100):
            pipe = client.pipeline(transaction=False)
            for body in bodies:
                head, _, call = body.partition(b"\n")
                header, arguments = json.loads(head), json.loads(call)
                value = _nothing(*arguments["args"], **arguments["kwargs"])
                if stored:
                    record = {"v": 1, "state": "SUCCESS", "queue": "default", "finished": expires, "value": value}
                    pipe.set(f"result:{header['id']}", json.dumps(record), px=DAY)
            if stored:
                pipe.execute()

    return _cost([pid], 20_000, drain)


def _nothing(_number: int) -> Any:
    """Do nothing."""


def _peer_drain(name: str, client: Any, server: RedisServer, *, stored: bool) -> float:
    client.flushall()
    environ = {**os.environ, "BENCH_PEER": name, "BENCH_REDIS_PORT": str(server.port), "PYTHONPATH": str(HERE)}
    environ |= {"BENCH_RESULTS": "1"} if stored else {}
    count = 4_000 // PEERS[name]
    loop = f"for number in range({count}): redispeers.send(number)"
    script = f"import json, redispeers\n{loop}\nprint(json.dumps(redispeers.command))"
    sent = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    how, key = WAITING[name]
    with _process(json.loads(sent.stdout.splitlines()[-1]), {**environ, "dramatiq_queue_prefetch": "1000"}) as process:
        return _middle(lambda: getattr(client, how)(key), [process.pid, server.pid], count)


# -- SQLite


@contextmanager
def _sqlite(folder: Path) -> Iterator[dict[str, Callable[[], float]]]:
    """Yield ways to drain a backlog on SQLite."""
    import benchapp
    from raw import RawQueue, SameWrites

    os.environ["QUEUEKIT_BROKER"] = f"sqlite:///{folder / 'queuekit.db'}"

    def left() -> int:
        counts = benchapp.app.runtime.broker.counts(["default"])["default"]
        return int(counts.ready + counts.leased)

    raw, same = RawQueue(folder / "raw.db"), SameWrites(folder / "same.db")

    def drained(queue: RawQueue | SameWrites) -> float:
        queue.bulk(20_000)
        return _cost([], 20_000, queue.drain)

    yield {
        "raw": partial(drained, raw),
        "same on": partial(drained, same),
        **{kind: partial(_drain, left, [], kind, False) for kind in ("pure", "fast")},  # noqa: FBT003 - a row
        **{f"{kind} on": partial(_drain, left, [], kind, True) for kind in ("pure", "fast")},  # noqa: FBT003
    }
    raw.close()
    same.close()


# -- starts


@contextmanager
def _starts(folder: Path) -> Iterator[dict[str, Callable[[], float]]]:
    """Yield ways to start: the cost is that of all processes, up to the first line of the first task, or to the end."""
    with _server(folder) as server:
        client = redis.Redis(port=server.port)
        numbers = itertools.count()

        def first(peer: str) -> float:
            client.flushall()
            return _start(folder, peer, server.url)

        def ended(*arguments: str) -> float:
            client.flushall()
            return _ended(server.url, *arguments)

        yield {
            **{peer: partial(first, peer) for peer in ("queuekit", "dramatiq", "huey")},
            "sqlite": lambda: _start(folder, "queuekit", f"sqlite:///{folder}/{next(numbers)}.db"),
            "burst": partial(ended, "-c", PROGRAM, "worker", "benchapp:app", "--burst"),
            "queues": partial(ended, "-c", PROGRAM, "queues"),
            "python": partial(ended, "-c", ""),
        }


def _start(folder: Path, name: str, url: str) -> float:
    mark = folder / "started"
    mark.unlink(missing_ok=True)
    ours = {"PYTHONPATH": str(HERE), "BENCH_MARK": str(mark), "BENCH_URL": url, "BENCH_PEER": name}
    environ = {**os.environ, **ours, "QUEUEKIT_BROKER": url, "QUEUEKIT_LOG__LEVEL": "WARNING"}
    sender = [sys.executable, "-c", "import json, startapp; startapp.send(); print(json.dumps(startapp.command))"]
    command = json.loads(subprocess.run(sender, env=environ, check=True, capture_output=True, text=True).stdout)
    null = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, *command], env=environ, start_new_session=True, stderr=null)
    try:
        while not mark.exists():
            time.sleep(0.002)
        return spent(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ended(url: str, *arguments: str) -> float:
    environ = {**os.environ, "PYTHONPATH": str(HERE), "QUEUEKIT_BROKER": url, "QUEUEKIT_LOG__LEVEL": "WARNING"}
    null = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, *arguments], env=environ, stdout=null, stderr=null)
    usage = os.wait4(process.pid, 0)[2]
    return usage.ru_utime + usage.ru_stime


# -- printing

PARTS = {"sends": _sends, "flight": _flight, "drains": _drains, "sqlite": _sqlite, "starts": _starts}
ROWS: dict[str, list[tuple[str, str, str, bool]]] = {
    "sends": [
        ("send / raw LPUSH", "send", "lpush", False),
        ("send, results / raw LPUSH", "send on", "lpush", False),
        ("send / the same writes", "send", "same", False),
        ("send, results / the same writes", "send on", "same on", False),
        ("delayed send, rate / immediate", "late", "send", True),
        ("delayed send, results, rate / immediate", "late on", "send on", True),
        ("asend 1 at once, rate / saq", "asend 1", "saq 1", True),
        ("asend 50 at once, rate / saq", "asend 50", "saq 50", True),
        ("asend 200 at once, rate / saq", "asend 200", "saq 200", True),
        ("send_many, rate / pipelined LPUSH", "many", "piped", True),
        ("send_many, rate / the same writes", "many", "same many", True),
        ("send_many, results, rate / same writes", "many on", "same many on", True),
    ],
    "flight": [
        ("asend 10,000 at once, rate / saq", "asend", "saq", True),
        ("asend 10,000 at once, rate / taskiq", "asend", "taskiq", True),
        ("the same, taskiq with 50 connections", "asend", "pool", True),
    ],
    "drains": [
        (f"{kind}{on}, rate / {other}", f"{kind}{on}", f"{other}{on}", True)
        for on in ("", " on")
        for kind, other in itertools.product(("pure", "fast"), (*DRAINED, "raw"))
    ]
    + [(f"async{on}, rate / threads", f"async{on}", f"fast{on}", True) for on in ("", " on")],
    "sqlite": [
        *((f"{kind}, rate / raw claim and delete", kind, "raw", True) for kind in ("pure", "fast")),
        *((f"{kind} on, rate / raw claim and delete", f"{kind} on", "raw", True) for kind in ("pure", "fast")),
        *((f"{kind} on, rate / the same writes", f"{kind} on", "same on", True) for kind in ("pure", "fast")),
    ],
    "starts": [
        ("exec to first task, Redis / Dramatiq", "queuekit", "dramatiq", False),
        ("exec to first task, SQLite / Dramatiq", "sqlite", "dramatiq", False),
        ("exec to first task, Redis / Huey", "queuekit", "huey", False),
        ("worker --burst, nothing to do / Dramatiq", "burst", "dramatiq", False),
        ("queues / Python alone", "queues", "python", False),
    ],
}


if __name__ == "__main__":
    main()
