"""The faults of ``tests/integration`` at full size, and at random; each prints its figures."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from queuekit import Signature
from queuekit.ids import derived_id
from support.claimer import claim_in_processes
from support.fault_tasks import anap, child_of, fail_at_first, hog, kill_self, nap
from support.fleet import Fleet, Group
from support.malformed import make
from support.waiting import wait_until

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

KILLS = 8
EVERY = 2.0
"""Seconds from the moment that a worker is ready to its kill."""
CONCURRENCY = 10
TASK_SECONDS = 0.02
MOST_PREFETCHED = 50
"""100 ms of work of such tasks at such a concurrency."""


@contextmanager
def figures(title: str) -> Iterator[dict[str, object]]:
    """Print what a test has put into the table."""
    table: dict[str, object] = {}
    started = time.monotonic()
    yield table
    table["seconds in all"] = round(time.monotonic() - started, 1)
    print(f"\n{title}\n  " + "\n  ".join(f"{name:<34} {value}" for name, value in table.items()))  # noqa: T201


@pytest.mark.parametrize(("count", "lease"), [(2_000, 30.0), (8_000, 2.0)])
def test_whole_group_killed_every_two_seconds(fleet: Fleet, count: int, lease: float) -> None:
    """Eight kills: none lost, and only those in flight at a kill run twice; three may end one message (QK6)."""
    sent = [result.id for result in fleet.app.send_many(nap.s(TASK_SECONDS) for _ in range(count))]
    in_flight: list[set[str]] = []
    held = Counter[str]()

    with figures(f"{count} tasks of 20 ms, {KILLS} kills, lease {lease:g} s") as table:
        for _ in range(KILLS):
            group = fleet.start_ready(concurrency=CONCURRENCY, lease=lease)
            let_pass(EVERY)
            group.kill()
            leased = set(fleet.leased())
            held.update(leased)
            in_flight.append(leased - set().union(*in_flight))
        last_kill = time.monotonic()
        done_before = len(fleet.ledger.counts("end"))
        fleet.start(concurrency=CONCURRENCY, lease=lease)
        fleet.drained(timeout=300)
        after = time.monotonic() - last_kill
        runs = fleet.ledger.counts("begin")
        again = {id for id, times in runs.items() if times > 1}
        ended, dead = set(fleet.ledger.counts("end")), fleet.dead()
        table |= {
            "in flight at each kill": [len(ids) for ids in in_flight],
            "done before the last kill": done_before,
            "lost": count - len(ended | set(dead)),
            "run more than once": len(again),
            "dead": len(dead),
            "seconds from the last kill": round(after, 1),
        }

    assert ended | set(dead) == set(sent)
    assert again <= set().union(*in_flight)
    assert max(map(len, in_flight)) <= CONCURRENCY + MOST_PREFETCHED
    assert {letter.reason for letter in dead.values()} <= {"crashed"}
    assert all(held[id] >= fleet.app.config.worker.max_deliveries for id in dead), dead


def test_a_process_of_a_body_killed_every_fifth_of_a_second(fleet: Fleet) -> None:
    """None of 10,000 is lost, and each kill costs one delivery at most; three that hit one message end it (QK6)."""
    count, kills = 10_000, 0
    sent = [result.id for result in fleet.app.send_many(nap.s(0.002) for _ in range(count))]

    with figures(f"{count} tasks in processes, one killed every 200 ms") as table:
        group = fleet.start_ready(concurrency=8, pool="process")
        while fleet.left():
            let_pass(0.2)
            for pid in random.sample(forked := bodies(group), k=min(1, len(forked))):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
        runs, ended, dead = fleet.ledger.counts("begin"), set(fleet.ledger.counts("end")), fleet.dead()
        table |= {
            "kills": kills,
            "lost": count - len(ended | set(dead)),
            "runs more than messages": sum(runs.values()) - count,
            "dead": len(dead),
        }

    assert ended | set(dead) == set(sent)
    assert sum(runs.values()) - count <= kills
    assert {letter.reason for letter in dead.values()} <= {"crashed"}
    assert len(group.workers()) == 1


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_processes_killed_while_they_are_recycled(fleet: Fleet, pool: str) -> None:
    """None of 3,000 is lost, and only those in flight at a kill run twice; in the end there are as many as before."""
    count, kills = 3_000, 0
    sent = [result.id for result in fleet.app.send_many(nap.s(TASK_SECONDS) for _ in range(count))]

    with figures(
        f"{count} tasks, {pool} pool, processes recycled after 5 s or 50 tasks, one killed every 2 s"
    ) as table:
        group = fleet.start_ready(concurrency=4, processes=2, pool=pool, max_tasks=50, max_age=5, drain=5)
        while fleet.left():
            let_pass(EVERY)
            for pid in random.sample(found := [*begun(group), *bodies(group)], k=min(1, len(found))):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
        runs, log = fleet.ledger.counts("begin"), group.read_log()
        table |= {
            "kills": kills,
            "worker processes recycled": log.count("has taken its place"),
            "lost": count - len(fleet.ledger.counts("end")),
            "runs more than messages": sum(runs.values()) - count,
            "dead": len(fleet.dead()),
        }
        wait_until(lambda: len(group.workers()) == 2, what="two processes, and no replacement", timeout=60)

    wait_until(lambda: fleet.dead() or fleet.ledger.has("end", sent), what="the end of all that were sent")
    assert set(fleet.ledger.counts("end")) == set(sent)
    assert sum(runs.values()) - count <= 4 * kills
    assert not fleet.dead()
    assert "has taken its place" in log


def begun(group: Group) -> list[int]:
    """Return the pids of the worker processes that have begun to work."""
    log = group.read_log()
    return [pid for pid in group.workers() if f"-{pid} ready" in log]


def bodies(group: Group) -> list[int]:
    """Return the pids of the processes that a fork server has made for bodies."""
    servers = {pid for pid, command in group.members().items() if "queuekit.worker.forkserver" in command}
    return [pid for pid in servers if _parent(pid) in servers]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.parametrize("batch", [1, 10, 100])
def test_eight_processes_claim(fleet: Fleet, batch: int) -> None:
    """No message has two claimers, and the slowest gets at least a third of the fastest's."""
    sent = [result.id for result in fleet.app.send_many(nap.s(0) for _ in range(20_000))]

    with figures(f"8 processes claim 20,000 messages, {batch} at a time") as table:
        started = time.monotonic()
        found = claim_in_processes(fleet.urls["broker"], fleet.folder, processes=8, batch=batch)
        claims = [ids for ids, _ in found]
        table |= {
            "claims of each": sorted(map(len, claims)),
            "slowest to fastest": round(min(map(len, claims)) / max(map(len, claims)), 2),
            "messages a second, start included": round(len(sent) / (time.monotonic() - started)),
        }

    assert Counter(id for ids in claims for id in ids) == dict.fromkeys(sent, 1)
    assert min(map(len, claims)) >= max(map(len, claims)) / 3


def test_poison_among_a_thousand(fleet: Fleet) -> None:
    """Five tasks that kill their worker, among a thousand others: dead after three runs each, the others done."""
    with figures("5 poisons among 1,000 tasks of 20 ms") as table:
        fleet.start(concurrency=CONCURRENCY)
        calls: list[Signature[Any]] = [nap.s(TASK_SECONDS) for _ in range(1_000)]
        poisons = [kill_self.options(id=f"poison-{number}").s() for number in range(5)]
        for number, poison in enumerate(poisons):
            calls.insert(200 * number, poison)
        sent = {result.id for result in fleet.app.send_many(calls)}
        fleet.drained(timeout=120)
        runs = fleet.ledger.counts("begin")
        guilty = {id for id in sent if id.startswith("poison")}
        table |= {
            "runs of each poison": sorted(runs[id] for id in guilty),
            "dead": sorted(fleet.dead()),
            "bystanders run more than once": sum(runs[id] > 1 for id in sent - guilty),
            "worker processes": len({line.pid for line in fleet.ledger.lines("begin")}),
        }

    assert {id: letter.reason for id, letter in fleet.dead().items()} == dict.fromkeys(guilty, "crashed")
    assert {runs[id] for id in guilty} == {3}
    assert fleet.ledger.has("end", sent - guilty)


def test_a_thousand_malformed_among_a_thousand(fleet: Fleet) -> None:
    """Good ones all run, bad ones are all set aside or held, and the worker process is the same."""
    with figures("1,000 malformed among 1,000 good ones, 100 of them of 5 MB") as table:
        group = fleet.start_ready(concurrency=CONCURRENCY)
        (pid,) = group.workers()
        bad, good = set(), []
        for envelope in make(1_000, large=100, seed=42):
            fleet.app.runtime.broker.send([envelope])
            bad.add(envelope.id)
            good.append(nap.send(0).id)
        malformed = {id for id in bad if not id.startswith("unknown")}
        wait_until(lambda: malformed <= fleet.dead().keys(), what="all set aside", timeout=120)
        wait_until(lambda: fleet.ledger.has("end", good), what="all good ones done", timeout=120)
        wait_until(lambda: bad - malformed <= fleet.waiting().keys(), what="all unknown ones held", timeout=120)
        table |= {
            "dead letters": Counter(f"{id.partition('-')[0]}: {letter.reason}" for id, letter in fleet.dead().items()),
            "held as unknown": len(fleet.waiting()),
            "largest memory of the worker, MB": most_memory(pid),
        }

    assert set(fleet.dead()) == malformed
    assert {letter.reason for letter in fleet.dead().values()} == {"malformed"}
    assert set(fleet.ledger.counts("end")) == set(good)
    assert group.workers() == [pid]


def test_gentle_stops_under_load(fleet: Fleet) -> None:
    """Twenty stops and starts in the middle of work: each ends with 0, nothing is lost and nothing runs twice."""
    sent = [result.id for result in fleet.app.send_many(nap.s(0.01) for _ in range(6_000))]

    with figures("20 gentle stops under load") as table:
        for stop in range(20):
            group = fleet.start_ready(concurrency=CONCURRENCY, processes=2)
            fleet.reached("end", 100 * (stop + 1))
            (group.signal_all if stop % 2 else group.signal)(signal.SIGTERM)
            assert group.wait() == 0
            assert not fleet.leased()
        fleet.start(concurrency=CONCURRENCY)
        fleet.drained(timeout=120)
        table["run more than once"] = sum(times > 1 for times in fleet.ledger.counts("begin").values())

    assert fleet.ledger.counts("end") == dict.fromkeys(sent, 1)


@pytest.mark.parametrize(("pool", "seed"), [("thread", 1), ("thread", 2), ("process", 3)])
def test_random_faults(fleet: Fleet, pool: str, seed: int) -> None:
    """Random signals to random processes for 40 s: each message has its one right outcome in the end."""
    chance = random.Random(seed)
    ids: dict[str, list[str]] = {"nap": [], "anap": [], "retry": [], "hog": [], "parent": []}

    with figures(f"random faults, {pool} pool, seed {seed}") as table:
        groups = [start_any(fleet, pool) for _ in range(2)]
        until = time.monotonic() + 40
        done: Counter[str] = Counter()
        while time.monotonic() < until:
            send_some(ids, chance)
            what = chance.choice(list(FAULTS))
            place = chance.randrange(len(groups))
            FAULTS[what](groups[place], chance)
            done[what] += 1
            if not groups[place].alive():
                groups[place] = start_any(fleet, pool)
            let_pass(chance.uniform(0.2, 1.5))
        for group in groups:
            group.signal_all(signal.SIGCONT)
            if not group.alive():
                start_any(fleet, pool)
        fleet.drained(timeout=120)
        sent = [id for some in ids.values() for id in some]
        children = [derived_id(id, "success") for id in ids["parent"]]
        runs = fleet.ledger.counts("begin")
        table |= {
            "faults": dict(done),
            "messages": {name: len(some) for name, some in ids.items()},
            "runs beyond one": sum(runs[id] for id in sent if id not in set(ids["retry"]))
            - sum(len(some) for name, some in ids.items() if name != "retry"),
            "dead": {id: letter.error for id, letter in fleet.dead().items()},
        }

    assert fleet.states([*sent, *children]) == {"SUCCESS": len(sent) + len(children)}
    assert not fleet.dead()
    assert set(fleet.ledger.counts("child")) == set(ids["parent"])


def start_any(fleet: Fleet, pool: str) -> Group:
    """Start a group of two processes with a short lease."""
    return fleet.start_ready(concurrency=4, processes=2, pool=pool, lease=2, drain=2)


def send_some(ids: dict[str, list[str]], chance: random.Random) -> None:
    """Send a handful of each kind of message."""
    for _ in range(10):
        ids["nap"].append(nap.send(chance.uniform(0, 0.05)).id)
        ids["anap"].append(anap.send(chance.uniform(0, 0.05)).id)
    for _ in range(4):
        ids["retry"].append(fail_at_first.send(chance.randrange(3)).id)
        ids["parent"].append(nap.options(on_success=[child_of.s()]).send(0.01).id)
    ids["hog"].append(hog.send(chance.uniform(0, 0.5)).id)


def let_pass(seconds: float) -> None:
    """Give workers a time to work in."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, what=f"{seconds:g} s")


def _kill_above(group: Group) -> None:
    group.signal(signal.SIGKILL)
    group.wait()


def _stop(group: Group, *signals: int) -> None:
    group.signal_all(signal.SIGCONT)
    for number in signals:
        group.signal_all(number)
    group.wait()


def _one_worker(number: int) -> Callable[[Group, random.Random], None]:
    def fault(group: Group, chance: random.Random) -> None:
        workers = group.workers()
        with suppress(ProcessLookupError):
            if workers:
                os.kill(chance.choice(workers), number)

    return fault


FAULTS: dict[str, Callable[[Group, random.Random], object]] = {
    "kill a process": _one_worker(signal.SIGKILL),
    "stop a process": _one_worker(signal.SIGTERM),
    "freeze a process": _one_worker(signal.SIGSTOP),
    "wake all": lambda group, _chance: group.signal_all(signal.SIGCONT),
    "kill the supervisor": lambda group, _chance: _kill_above(group),
    "kill the group": lambda group, _chance: group.kill(),
    "stop the group": lambda group, _chance: _stop(group, signal.SIGTERM),
    "stop at once": lambda group, _chance: _stop(group, signal.SIGTERM, signal.SIGINT),
}
"""Name to what is done to a group."""


def most_memory(pid: int) -> int:
    """Return the most megabytes that a process has had."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) // 1024
