"""Measure queuekit on Redis in one run beside raw redis-py and its peers: ``python tests/bench/redis_bench.py``.

Rates are medians over interleaved rounds; what matters are the ratios, since all figures of a run share one machine
and one moment. Server and workers share the cores that the run has: ``taskset -c 0 python ...`` pins all to one.
Nothing here judges.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import psutil  # noqa: E402 - after the path
import redis  # noqa: E402 - ...
from redis_wake import ANSWER, NOTIFIER  # noqa: E402 - it is found by the line above
from run import _drained, _process, _worker  # noqa: E402 - the same CLI, the same way to count

from support.redis_servers import RedisServer, need  # noqa: E402 - ...

Rates = dict[str, list[float]]
BODY = (
    b'{"v":1,"id":"0190d5a4-7b3e-7c00-8000-0123456789ab","task":"benchapp.noop","ct":"json"}\n{"args":[1],"kwargs":{}}'
)
PEERS = {"huey": 1, "dramatiq": 1, "taskiq": 2, "saq": 2, "celery": 10, "rq": 20}
"""Each with the part of the tasks that it gets: a rate needs no minute."""
WAITING = {
    "huey": ("llen", "huey.redis.bench"),
    "dramatiq": ("hlen", "dramatiq:default.msgs"),
    "taskiq": ("llen", "bench"),
    "celery": ("llen", "bench"),
    "rq": ("llen", "rq:queue:bench"),
    "saq": ("zcard", "saq:bench:incomplete"),
}
"""What tells how many of a peer's tasks are left."""
SAME_WRITES = """
local time = redis.call('TIME')
redis.call('HSETNX', KEYS[1] .. ':m', ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[1] .. ':r', time[1] * 1e6 + time[2], ARGV[1])
if redis.call('EXISTS', KEYS[1] .. ':b') == 0 then redis.call('RPUSH', KEYS[1] .. ':b', '1') end
if ARGV[3] then
  if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
  redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
end
return 1
"""
RECORD = b"\1" * 25 + b'\14\0\0\0benchapp.noop\7\0\0\0PENDING{"v":1,"state":"PENDING","queue":"default","sent":1.1}\n'


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=20_000, help="tasks to drain")
    parser.add_argument("--samples", type=int, default=300, help="sends to an idle worker")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=["huey", "dramatiq"])
    parser.add_argument("--deep", type=int, default=50_000, help="messages that wait while some are drained")
    parser.add_argument("--due", type=int, default=10_000, help="tasks that are due at one moment")
    parser.add_argument("--slow", type=int, default=400, help="tasks of 50 ms at concurrency 100")
    parser.add_argument("--only", choices=("rates", "worker", "sizes"), help="a part of it")
    return parser.parse_args()


def main() -> None:
    """Run all rounds and print the tables."""
    options = _options()
    rates: Rates = {}
    with tempfile.TemporaryDirectory(prefix="queuekit-bench-") as name:
        server = RedisServer(need("valkey"), Path(name), arguments=["--save", ""]).start()
        client = redis.Redis(port=server.port)
        os.environ["QUEUEKIT_BROKER"] = server.url
        try:
            peers = [_peer(peer, results) for peer in options.peers for results in (False, True)]
            for _ in range(options.rounds if options.only in (None, "rates") else 0):
                for measure in (_raw, _queuekit, *peers):
                    client.flushall()
                    measure(client, options.count, rates)
                    print(".", end="", flush=True, file=sys.stderr)
            print(file=sys.stderr)
            if rates:
                _print_rates({key: statistics.median(values) for key, values in rates.items()}, options.peers)
            if options.only in (None, "worker"):
                _print_worker(client, server.url, options.samples)
            if options.only in (None, "sizes"):
                _print_sizes(client, options)
        finally:
            server.stop()


def _note(rates: Rates, key: str, rate: float) -> None:
    rates.setdefault(key, []).append(rate)


def _rate(count: int, work: Callable[[], object]) -> float:
    since = time.perf_counter()
    work()
    return count / (time.perf_counter() - since)


def _raw(client: Any, count: int, rates: Rates) -> None:
    """Measure the client library alone, one by one and pipelined by 100, and a script with the writes that we do."""
    single, script = count // 10, client.register_script(SAME_WRITES)
    _note(rates, "raw single", _rate(single, lambda: [client.lpush("raw", BODY) for _ in range(single)]))
    _note(
        rates,
        "same single",
        _rate(single, lambda: [script(keys=["{s}"], args=[str(n), BODY]) for n in range(single)]),
    )
    _note(rates, "same stored", _rate(single, lambda: [_with_record(script, n) for n in range(single)]))
    _note(rates, "same bulk", _rate(count, lambda: _piped(client, count, _same_writes(script))))
    _note(rates, "same stored bulk", _rate(count, lambda: _piped(client, count, _same_writes(script, stored=True))))
    _note(rates, "raw bulk", _rate(count, lambda: _piped(client, count, lambda pipe: pipe.lpush("raw", BODY))))
    _note(rates, "raw drain", _rate(count, lambda: _piped(client, count, lambda pipe: pipe.rpop("raw"))))
    _note(rates, "raw brpop", _rate(single, lambda: [client.brpop("raw", 1) for _ in range(single)]))


def _with_record(script: Any, number: int) -> object:
    return script(keys=["{r}", f"{{r}}:{number}"], args=[str(number), BODY, RECORD, 86_400_000])


def _same_writes(script: Any, *, stored: bool = False) -> Callable[[Any], object]:
    numbers = itertools.count()
    if not stored:
        return lambda pipe: pipe.evalsha(script.sha, 1, "{p}", str(next(numbers)), BODY)

    def put(pipe: Any) -> object:
        number = next(numbers)
        return pipe.evalsha(script.sha, 2, "{q}", f"{{q}}:{number}", str(number), BODY, RECORD, 86_400_000)

    return put


def _piped(client: Any, count: int, put: Callable[[Any], object]) -> None:
    for _ in range(count // 100):
        with client.pipeline(transaction=False) as pipe:
            for _ in range(100):
                put(pipe)
            pipe.execute()


def _queuekit(client: Any, count: int, rates: Rates) -> None:
    import benchapp

    app = benchapp.app
    app.configure()
    app.send(benchapp.silent.s(0))
    single = count // 10
    _note(rates, "single", _rate(single, lambda: [benchapp.silent.send(number) for number in range(single)]))
    _note(rates, "single stored", _rate(single, lambda: [benchapp.noop.send(number) for number in range(single)]))
    for key, task in (("", benchapp.silent), (" stored", benchapp.noop)):
        app.runtime.broker.purge("default")
        numbers = range(count)
        _note(rates, f"bulk{key}", _rate(count, lambda: app.send_many(task.s(n) for n in numbers)))  # noqa: B023
        client.config_resetstat()
        with _worker():
            _note(rates, f"drain{key}", _drained(lambda: _here(client), count))
            _note(rates, f"commands{key}", _sent_commands(client) / count)
    app.close()


def _left(app: Any, *, delayed: bool = False) -> int:
    counts = app.runtime.broker.counts(["default"])["default"]
    return int(counts.ready + counts.leased + (counts.delayed if delayed else 0))


def _here(client: Any) -> int:
    """Return how many are ready or under way, for as little of the server's time as to look after a peer takes."""
    with client.pipeline(transaction=False) as pipe:
        for place in ("ready", "leased"):
            pipe.zcard(f"queuekit:{{default}}:{place}")
        return int(sum(pipe.execute()))


def _sent_commands(client: Any) -> int:
    """Return how many commands clients have sent since the last reset, without those of scripts and of this one."""
    stats = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in client.info("commandstats").items()}
    sent = ("evalsha", "blpop", "mget", "script|load", "sadd", "subscribe", "unsubscribe")
    return int(sum(stats.get(name, 0) for name in sent))


def _peer(name: str, results: bool) -> Callable[[Any, int, Rates], None]:  # noqa: FBT001 - a row
    def measure(client: Any, count: int, rates: Rates) -> None:
        port = str(client.connection_pool.connection_kwargs["port"])
        environ = {**os.environ, "BENCH_PEER": name, "BENCH_REDIS_PORT": port, "PYTHONPATH": str(HERE)}
        environ |= {"BENCH_RESULTS": "1"} if results else {}
        key = f"{name} stored" if results else name
        count //= PEERS[name]
        script = (
            "import time, json, redispeers\n"
            f"since = time.perf_counter()\nfor number in range({count}): redispeers.send(number)\n"
            f"print({count} / (time.perf_counter() - since)); print(json.dumps(redispeers.command))"
        )
        sent = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
        rate, command = sent.stdout.splitlines()[-2:]
        _note(rates, f"{key} single", float(rate))
        how, key_of_queue = WAITING[name]
        import json

        with _process(json.loads(command), {**environ, "dramatiq_queue_prefetch": "1000"}):
            _note(rates, f"{key} drain", _drained(lambda: getattr(client, how)(key_of_queue), count))

    return measure


# -- printing


def _print_rates(rate: dict[str, float], peers: list[str]) -> None:
    print(f"\n{'':26}{'queuekit':>10}   beside")
    for title, key, others in _ROWS:
        ending = " stored" if key.endswith("stored") else ""
        step = key.removesuffix(" stored")
        beside = [*others, *(f"{peer}{ending} {step}" for peer in peers if step in ("single", "drain"))]
        for index, other in enumerate(beside):
            ours = f"{rate[key]:>10,.0f}" if index == 0 else " " * 10
            ratio = rate[key] / rate[other]
            print(f"{title if index == 0 else '':26}{ours}   {other:24} {rate[other]:>10,.0f}   ratio {ratio:5.2f}")
    print(f"\ncommands a task in a drain: {rate['commands']:.3f}, results stored {rate['commands stored']:.3f}")


_ROWS: list[tuple[str, str, list[str]]] = [
    ("send one by one", "single", ["raw single", "same single"]),
    ("... results stored", "single stored", ["same stored"]),
    ("send_many", "bulk", ["raw bulk", "same bulk"]),
    ("... results stored", "bulk stored", ["raw bulk", "same stored bulk"]),
    ("drain", "drain", ["raw brpop", "raw drain"]),
    ("... results stored", "drain stored", ["raw brpop"]),
]


def _print_sizes(client: Any, options: argparse.Namespace) -> None:
    """Measure a drain with many that wait, many that are due at one moment, and many that take a while."""
    import benchapp

    app = benchapp.app
    app.configure()
    print("\nSizes")
    for waiting in (options.count, options.deep):
        client.flushall()
        app.send_many(benchapp.silent.s(number) for number in range(waiting))
        with _worker():
            rate = _drained(lambda: max(0, _left(app) - waiting + options.count), options.count)  # noqa: B023
        print(f"  drain with {waiting:>9,} waiting    {rate:>10,.0f} a second")
    client.flushall()
    due = time.time() + 2 + options.due / 10_000
    moment = datetime.fromtimestamp(due, UTC)
    app.send_many(benchapp.silent.options(eta=moment).s(number) for number in range(options.due))
    with _worker():
        while _left(app, delayed=True):
            time.sleep(0.01)
    print(f"  {options.due:>9,} due at one moment      last one done {time.time() - due:.2f} s after it")
    client.flushall()
    app.send_many(benchapp.pause.s(0.05) for _ in range(options.slow))
    with _worker("-c", "100"):
        rate = _drained(lambda: _left(app), options.slow)
    print(
        f"  {options.slow:>9,} of 50 ms, 100 at once    {options.slow / rate:.2f} s, ideal {options.slow / 2000:.2f} s"
    )
    app.close()


def _print_worker(client: Any, url: str, samples: int) -> None:
    import benchapp

    benchapp.app.configure()
    with _worker() as process, ExitStack() as consumers:
        ways = {"send to start, idle": lambda: _latency(benchapp)}
        for database, kind in enumerate(("plain", "leased"), 1):
            consumer = _raw_consumer(f"{url.removesuffix('0')}{database}", kind)
            ways[f"raw, {kind}"] = consumers.enter_context(consumer)
        waits = _by_turns(ways, samples, 50)
        consumers.close()
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        before, _ = [sum(one.cpu_times()[:2]) for one in family], client.config_resetstat()
        time.sleep(20)
        spent = sum(sum(one.cpu_times()[:2]) for one in family) - sum(before)
        idle = 3 * _sent_commands(client)
    print("\nOne worker, one queue")
    late = _at(waits["send to start, idle"], 0.5)
    for what, some in waits.items():
        half = _at(some, 0.5)
        print(f"  {what:21} p50 {half:.2f} ms   p99 {_at(some, 0.99):.2f} ms   ratio {late / half:5.2f}")
    print(f"  idle                  {100 * spent / 20:.2f} % CPU, {idle} commands a minute")
    benchapp.app.close()


def _by_turns(ways: dict[str, Callable[[], float]], count: int, block: int) -> dict[str, list[float]]:
    """Let each of *ways* give *block* of *count* figures after the other, and return them in order."""
    figures: dict[str, list[float]] = {key: [] for key in ways}
    for _ in range(max(1, count // block)):
        for key, way in ways.items():
            way()  # the first one finds it starting, or out of practice
            figures[key] += [way() for _ in range(block)]
    return {key: sorted(some) for key, some in figures.items()}


def _latency(benchapp: Any) -> float:
    """Return the milliseconds from just before a send to the start of the body."""
    time.sleep(0.01)
    since = time.monotonic()
    result = benchapp.clock.send()
    time.sleep(0.01)  # who waits for the result at once is busy, and so is the server, while the worker wakes up
    began: float = result.get(timeout=10)
    return (began - since) * 1000


@contextmanager
def _raw_consumer(url: str, kind: str) -> Iterator[Callable[[], float]]:
    """Yield what returns the milliseconds from just before a raw send to the moment that a raw consumer knows."""
    body = BODY.replace(b"benchapp.noop", b"benchapp.clock").replace(b"[1]", b"[]")
    record = (RECORD, 86_400_000)
    client = redis.Redis.from_url(url)
    same, numbers = client.register_script(SAME_WRITES), itertools.count()

    def wake() -> float:
        time.sleep(0.01)
        number, since = next(numbers), time.monotonic()
        if kind == "plain":
            client.lpush(NOTIFIER, b"1")
        else:
            same(keys=["wake", f"wake:{number}"], args=[str(number), body, *record])
        time.sleep(0.01)
        answer: Any = client.brpop([ANSWER])
        return (float(answer[1]) - since) * 1000

    with _process([sys.executable, str(HERE / "redis_wake.py"), url, kind], dict(os.environ)):
        yield wake


def _at(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


if __name__ == "__main__":
    main()
