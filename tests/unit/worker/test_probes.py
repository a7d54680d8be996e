"""Which probe says what about a worker, in virtual time."""

from itertools import count
from typing import Any

import pytest

from queuekit import Queuekit
from queuekit.errors import ConfigError
from queuekit.worker.probes import Probes, ProcessFacts, Pulse, Still
from queuekit.worker.run_table import RunTable

OK = (True, "ok")
DOWN = Pulse(down=True)


class Clock:
    """A monotonic clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def process(**facts: Any) -> ProcessFacts:
    """Return a process at work, except for *facts*."""
    return ProcessFacts(**{"name": "host-1", "ready": True, "silent": 0.0, "pulse": Pulse(), **facts})


def answers(*processes: ProcessFacts, stopping: bool = False, expected: int = 1) -> dict[str, Any]:
    """Return what each probe says after one tick, of a worker that has started."""
    probes = Probes(processes=expected, patience=30.0)
    probes.started = True
    probes.tick(processes, stopping=stopping)
    return {name: probes.answer(f"/{name}z") for name in ("live", "ready", "startup")}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        pytest.param({"silent": 31.0}, "host-1 has given no sign of life for 31 s", id="frozen"),
        pytest.param({"pulse": Pulse(fetch=31.0)}, "the fetch loop of host-1 has not moved for 31 s", id="fetch"),
        pytest.param({"pulse": Pulse(settle=31.0)}, "the settle loop of host-1 has not moved for 31 s", id="settle"),
        pytest.param({"pulse": Pulse(loop=31.0)}, "the event loop of host-1 has not moved for 31 s", id="event-loop"),
    ],
)
def test_a_worker_that_is_alive_and_deaf_is_not_live(facts: dict[str, Any], said: str) -> None:
    """Nor is it ready; it has started all the same."""
    assert answers(process(**facts)) == {"live": (False, said), "ready": (False, said), "startup": OK}


@pytest.mark.parametrize(
    ("processes", "stopping", "expected", "said"),
    [
        pytest.param([process(pulse=DOWN)], False, 1, "the broker does not answer host-1", id="engine-down"),
        pytest.param([process()], True, 1, "stopping", id="stopping"),
        pytest.param([process()], False, 2, "1 of 2 processes take messages", id="one-died"),
        pytest.param([process(ready=False)], False, 1, "0 of 1 processes take messages", id="restarting"),
    ],
)
def test_a_worker_that_takes_nothing_is_live_and_not_ready(
    processes: list[ProcessFacts],
    stopping: bool,  # noqa: FBT001 - a row of the table
    expected: int,
    said: str,
) -> None:
    """A restart would not help, and no engine is needed to be live."""
    found = answers(*processes, stopping=stopping, expected=expected)

    assert found == {"live": OK, "ready": (False, said), "startup": OK}


@pytest.mark.parametrize(
    ("processes", "drained", "said"),
    [
        pytest.param([process()], 1, OK, id="gone"),
        pytest.param([process(), process(ready=False)], 1, OK, id="going"),
        pytest.param([process(ready=False)], 1, (False, "0 of 1 processes take messages"), id="the-other-died"),
        pytest.param([process(ready=False)], 2, (False, "drained: no process takes messages"), id="last-one"),
        pytest.param([], 2, (False, "drained: no process takes messages"), id="all"),
    ],
)
def test_a_process_that_was_drained_does_not_lack(
    processes: list[ProcessFacts], drained: int, said: tuple[bool, str]
) -> None:
    """Nothing follows it, so a worker is ready with those that are left; without any, it is not."""
    probes = Probes(processes=2, patience=30.0)
    probes.started = True

    probes.tick(processes, stopping=False, drained=drained)

    assert probes.answer("/readyz") == said


def test_starts_when_all_processes_have_been_ready() -> None:
    """Until then it is live and not ready; and what has started stays started."""
    probes = Probes(processes=2, patience=30.0)

    probes.tick([process(), process(ready=False)], stopping=False)
    before = [probes.answer(path) for path in ("/livez", "/readyz", "/startupz")]
    probes.tick([process(), process()], stopping=False)
    after = [probes.answer(path) for path in ("/livez", "/readyz", "/startupz")]
    probes.tick([], stopping=False)

    assert before == [OK, (False, "starting"), (False, "starting")]
    assert after == [OK, OK, OK]
    assert probes.answer("/startupz") == OK


def test_a_supervisor_that_does_not_move_is_not_live() -> None:
    """Nobody else would notice."""
    clock = Clock()
    probes = Probes(processes=1, patience=30.0, monotonic=clock)
    probes.tick([process()], stopping=False)

    clock.now += 31.0

    assert probes.answer("/livez") == (False, "the supervisor has not moved for 31 s")


def test_there_are_no_other_probes() -> None:
    """Whoever asks for another path is told."""
    assert Probes(processes=1, patience=30.0).answer("/metrics") is None


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        pytest.param([(1, 0.0), (1, 1.0), (1, 2.0)], 2.0, id="still"),
        pytest.param([(1, 0.0), (1, 1.0), (2, 2.0)], 0.0, id="moves"),
        pytest.param([(None, 0.0), (None, 1.0), (None, 2.0)], 0.0, id="nothing-to-do"),
        pytest.param([(1, 0.0), (1, 3_600.0)], 2.0, id="a-pause-of-all"),
    ],
)
def test_counts_how_long_a_value_stands_still(looks: list[tuple[int | None, float]], seconds: float) -> None:
    """Only as long as somebody looks: when a whole container was frozen, nobody has."""
    still = Still()

    for value, now in looks:
        still.look(value, now)

    assert still.seconds == seconds


def test_a_process_writes_its_pulse_beside_its_runs() -> None:
    """Neither touches the other."""
    table = RunTable(3)

    table.report(Pulse(fetch=1.0, settle=2.0, loop=3.0, down=True))
    for row, serial in zip(range(3), count(7), strict=False):
        table.enter(row, serial, 5.0)
        table.thread(row, 99)
    table.beat(4.0)

    assert table.pulse == Pulse(1.0, 2.0, 3.0, down=True)
    assert ({*table.entered()}, table.last_beat) == ({7, 8, 9}, 4.0)


@pytest.mark.parametrize("value", ["8080", 8081, "0.0.0.0:8081", "[::1]:0", "localhost:80", "/run/qk.sock"])
def test_knows_where_probes_may_be(value: Any) -> None:
    """A port, an address or a path."""
    assert Queuekit(worker={"health_port": value}).config.worker.health_port == str(value)


@pytest.mark.parametrize("value", ["port", "65536", "host:", ":80", "::1:80", "-1", True, 1.5])
def test_refuses_what_is_no_address(value: Any) -> None:
    """The settings say so before anything starts."""
    with pytest.raises(ConfigError, match="a port, HOST:PORT or the path of a socket"):
        _ = Queuekit(worker={"health_port": value}).config
