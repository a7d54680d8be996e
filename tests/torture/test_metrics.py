"""Metrics of 10,000 tasks with failures in several processes, scraped meanwhile: figures equal the ledger's."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queuekit import Signature
from support import fault_tasks
from support.engines import ENGINES
from support.fleet import Fleet
from support.waiting import wait_until

pytest.importorskip("queuekit_prometheus", reason="pip install -e plugins/queuekit-prometheus prometheus-client")

from support.scraping import Samples, scrape

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]

MODULE = """
from queuekit import Context
from support.fault_tasks import app, nap
from support.ledger import write_down

app.configure({"prometheus": {"port": 0}})


@app.task(name="parent")
def parent(ctx: Context) -> None:
    write_down("begin", ctx.id)
    nap.send(0)
    write_down("end", ctx.id)
"""
WELL, FAIL, SEND, DIE = 6_000, 3_000, 700, 300
"""Tasks that end well, that fail once or twice before they do, that send another one, and that become dead letters."""


@pytest.fixture(params=["sqlite", "redis"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """Return workers on one engine."""
    made = Fleet(tmp_path, fault_tasks.app, **ENGINES[request.param](tmp_path))
    yield made
    made.close()


def total(found: Samples, name: str, **labels: str) -> float:
    """Return the sum of all samples of *name* that have *labels*."""
    return sum(value for (one, given), value in found.items() if one == name and labels.items() <= dict(given).items())


def test_figures_of_10000_tasks_are_those_of_the_ledger(fleet: Fleet, tmp_path: Path) -> None:
    """Three processes, each replaced after 1,500 tasks: no figure is ever too large or smaller than before."""
    (tmp_path / "counted.py").write_text(MODULE)
    group = fleet.start_ready(app="counted:app", folder=tmp_path, processes=3, concurrency=4, max_tasks=1_500)
    (address,) = re.findall(r"metrics  http://(\S+)/metrics", group.read_log())
    calls: list[Signature[Any]] = [fault_tasks.nap.s(0) for _ in range(WELL)]
    calls += [Signature("parent") for _ in range(SEND)]
    calls += [fault_tasks.fail_at_first.s(1 + number % 2) for number in range(FAIL)]
    calls += [fault_tasks.fail_at_first.s(9) for _ in range(DIE)]
    sent = {result.id for result in fleet.app.send_many(calls)}
    seen = [scrape(address)]
    while fleet.left():
        seen.append(scrape(address))
        assert all(seen[-1][key] >= value for key, value in seen[-2].items() if key[0].endswith(("_total", "_count")))
        assert total(seen[-1], "queuekit_task_duration_seconds_count") <= len(fleet.ledger.lines("begin"))
    begun, ended = fleet.ledger.counts("begin"), fleet.ledger.counts("end")
    dead = fleet.dead()
    wait_until(
        lambda: total(scrape(address), "queuekit_tasks_total", outcome="done") == ended.total(),
        what=lambda: f"{ended.total()} that are done: {scrape(address)}",
    )
    found = scrape(address)

    outcomes = {name: total(found, "queuekit_tasks_total", outcome=name) for name in ("retried", "failed", "lost")}
    print(f"\n{len(seen)} scrapes; {ended.total()} done, {outcomes}, {len(dead)} dead")  # noqa: T201
    assert ended.total() == len(ended) == WELL + FAIL + 2 * SEND
    assert len(begun.keys() - sent) == SEND == total(found, "queuekit_messages_sent_total", task=fault_tasks.nap.name)
    assert outcomes == {"retried": begun.total() - len(begun), "failed": len(dead), "lost": 0}
    assert total(found, "queuekit_dead_letters_total", reason="failed") == len(dead) == DIE
    for name in ("queuekit_task_duration_seconds", "queuekit_task_wait_seconds"):
        assert total(found, f"{name}_count") == total(found, f"{name}_bucket", le="+Inf") == begun.total()
    assert len({line.pid for line in fleet.ledger.lines("begin")}) > 3
