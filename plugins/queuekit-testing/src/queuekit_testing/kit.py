"""What all suites have in common: gates, bounded waits, fresh names, threads that cannot hang the run."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import attrs
import pytest

from queuekit.errors import UnavailableError, did_you_mean
from queuekit_testing.connections import cut

__all__ = [
    "NEWEST_LEVEL",
    "NOT_DECLARED",
    "NOT_PROVED",
    "Conformance",
    "Span",
    "assert_time_of_day",
    "eventually",
    "in_thread",
    "need_hypothesis",
    "needs",
    "since",
    "unique_name",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

NEWEST_LEVEL = 1
"""The highest ``KIT_LEVEL``. It grows with a release that adds tests, and those are marked with :func:`since`."""
NOT_DECLARED = "capability not declared: "
"""How the reason of a skip begins."""
NOT_PROVED = "not proved here (emulator): "
"""How the reason of an expected failure begins."""
ABOVE_LEVEL = "above KIT_LEVEL: "
"""How the reason begins of a skip that a higher ``KIT_LEVEL`` lifts."""
LEVEL = "queuekit_level"
"""Name of the property by which a report tells its level."""
AREA = "queuekit_area"
"""Name of the property by which a report tells in which module of the suites a test is written."""
ABOUT = "queuekit_about"
"""Name of the property by which a report tells what a suite ran on."""
KEPT = "queuekit_kept"
"""Name of the property by which a report tells that a value came back which the suite does not ask for."""
REPORT = "--queuekit-conformance-report"
"""Option that asks for these two, and for a file with what comes of them."""
_PACKAGE = "queuekit_testing."
_PROBE_PATIENCE = 2.0
"""Seconds where a failure is expected and nothing is lost by one."""
_CLOCKS_APART = 900.0
"""Seconds by which the clocks of service and machine may differ; time zones are a quarter of an hour apart."""
_MOST_SPANS = 8


def needs(*capabilities: str, probe: bool = False) -> Callable[[F], F]:
    """Mark a test as one of *capabilities*: where one of them is not declared, it is skipped.

    One with *probe* is tried all the same where just one is missing; if it passes, the closing lines say that the
    capability could be declared. So a probe must be quick, whatever comes.
    """

    def mark(test: F) -> F:
        test.__dict__["needs"] = capabilities
        test.__dict__["probe"] = probe
        return test

    return mark


def since(level: int) -> Callable[[F], F]:
    """Mark a test that came with *level*: it is skipped where ``KIT_LEVEL`` is lower."""

    def mark(test: F) -> F:
        test.__dict__["level"] = level
        return test

    return mark


def eventually(predicate: Callable[[], T], *, timeout: float = 10.0, what: str = "") -> T:
    """Call *predicate* until it returns something true, and return that; fail after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout:g} s: {what or (predicate.__doc__ or '').rstrip('.') or 'the condition'}")
        time.sleep(0.005)


def in_thread(call: Callable[[], T]) -> Future[T]:
    """Run *call* in a thread that does not keep the process alive, and return its future."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="conformance").start()
    return future


def need_hypothesis() -> Any:
    """Return Hypothesis; where it is missing, skip the test and say how to get it."""
    return pytest.importorskip("hypothesis", reason="needs Hypothesis:  pip install 'queuekit-testing[kit]'")


def assert_time_of_day(name: str, moment: float) -> None:
    """Fail unless *moment* is UTC epoch seconds of about now, as far as this machine's clock can tell."""
    off = moment - time.time()
    assert abs(off) < _CLOCKS_APART, f"{name} is {off:.0f} s off this machine's clock: not UTC epoch seconds?"


def unique_name(prefix: str) -> str:
    """Return a name that no other test, process or earlier run has used."""
    return f"{prefix}-{os.urandom(6).hex()}"


class Span:
    """A time that is meant to end, begun when this was made: a lease, a delay, a life.

    Args:
        seconds: How long it lasts on the server.
        granularity: Seconds by which the server may round it.
    """

    def __init__(self, seconds: float, granularity: float) -> None:
        self.seconds = seconds
        self._granularity = granularity
        self._begin = time.monotonic()

    def holds(self) -> bool:
        """Return whether it cannot have ended yet, however the server rounds."""
        return time.monotonic() - self._begin < max(self.seconds - self._granularity, 0.4 * self.seconds)

    @property
    def rest(self) -> float:
        """Seconds until it must have ended, if it was begun at most a twentieth of a second after this was made."""
        return max(0.0, self._begin + 1.05 * self.seconds + self._granularity + 0.05 - time.monotonic())


class Conformance:
    """Base of the suites."""

    KIT_LEVEL: ClassVar[int] = 1
    """Which tests are run: those up to this level. A new version of queuekit may bring a new level, and adds no test
    until you raise it; the closing line says what there would be."""
    EMULATOR: ClassVar[Mapping[str, str]] = {}
    """For runs against an imitation of the service: name of a test that it cannot pass -> why. Those tests are
    expected to fail, a pass is an error, and the closing line counts what is left unproved."""
    EMULATOR_AT_TIMES: ClassVar[Mapping[str, str]] = {}
    """The same for faults that show now and then only: those tests are not run."""
    NOT_PROMISED: ClassVar[Mapping[str, str]] = {}
    """Capabilities that are left undeclared though their tests pass here -> why; not proposed in the closing lines."""
    CLOCK_OF_ITS_OWN: ClassVar[bool] = True
    """Whether leases and delays run on a clock of the service's own. Say ``False`` for an engine that has none and
    lives by the clock of its clients, such as files: then no test sets a client's clock ahead (QK11)."""
    EXAMPLES: ClassVar[int] = 20
    """Runs of the state machine, of 20 steps each; 0 for none."""
    SHORT: float = 0.25
    """Seconds of a lease or delay that is meant to end; more where the limits of the service ask for it. Within a
    process it may be less, so that the suite is quicker."""
    PATIENCE: float = 60.0
    """Seconds after which what should happen counts as not happening. Only failures take that long, so it is for what
    hangs, and more than any machine needs, however busy."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not 1 <= cls.KIT_LEVEL <= NEWEST_LEVEL:
            raise TypeError(f"{cls.__name__}.KIT_LEVEL is {cls.KIT_LEVEL}; this queuekit has 1 to {NEWEST_LEVEL}")
        tests = [name for name in dir(cls) if name.startswith("test_")]
        for table in ("EMULATOR", "EMULATOR_AT_TIMES"):
            cls._refuse_unknown(table, "test", tests)
        wanted = {word for name in tests for word in getattr(getattr(cls, name), "needs", ())}
        if wanted:
            cls._refuse_unknown("NOT_PROMISED", "capability", wanted)

    @classmethod
    def _refuse_unknown(cls, table: str, kind: str, known: Collection[str]) -> None:
        """Refuse a name in *table* that is none: it would do nothing, and nobody would notice."""
        for name in getattr(cls, table):
            if name not in known:
                near = did_you_mean(name, sorted(known))
                raise TypeError(f"{cls.__name__}.{table}: no {kind} is called {name!r}; {near}")

    _known: Collection[int] = ()
    """Connections that were there before those of the test."""

    @property
    def patience(self) -> float:
        """Seconds after which what should happen counts as not happening, on this service."""
        return self.PATIENCE

    @pytest.fixture
    def server(self, tmp_path: Path) -> object:
        """Prepare what the clients talk to. Override it to start a server or to choose a file; it comes first."""
        return tmp_path

    @pytest.fixture(autouse=True)
    def _at_level(self, request: pytest.FixtureRequest) -> None:
        """Skip a test that came with a later level; comes first, being the first by name."""
        level: int = getattr(request.function, "level", 1)
        request.node.user_properties.append((LEVEL, self.KIT_LEVEL))
        if request.config.getoption(REPORT, None):
            self._tell_area(request)
        if level > self.KIT_LEVEL:
            pytest.skip(f"{ABOVE_LEVEL}{level}")

    @pytest.fixture(autouse=True)
    def _expect_faults(self, request: pytest.FixtureRequest) -> None:
        """Turn the tests that an emulator is known to fail into strict expected failures, or leave them out."""
        name: str = getattr(request.node, "originalname", request.node.name)
        if name in self.EMULATOR_AT_TIMES:
            pytest.skip(NOT_PROVED + self.EMULATOR_AT_TIMES[name])
        if name in self.EMULATOR:
            self.PATIENCE = min(self.PATIENCE, _PROBE_PATIENCE)
            request.node.add_marker(pytest.mark.xfail(reason=NOT_PROVED + self.EMULATOR[name], strict=True))

    @pytest.fixture(autouse=True)
    def _gate(self, request: pytest.FixtureRequest, declared: object) -> None:
        """Skip a test of something that is not declared, or try it where a pass would tell something."""
        wanted: tuple[str, ...] = getattr(request.function, "needs", ())
        missing = [name for name in wanted if not getattr(declared, name)]
        if not missing:
            return
        reason = NOT_DECLARED + ", ".join(missing)
        if len(missing) > 1 or not getattr(request.function, "probe", False) or missing[0] in self.NOT_PROMISED:
            pytest.skip(reason)
        self.PATIENCE = min(self.PATIENCE, _PROBE_PATIENCE)
        request.node.add_marker(pytest.mark.xfail(reason=reason, strict=False))

    @pytest.fixture(autouse=True)
    def _tell_what_about(self, request: pytest.FixtureRequest, declared: object) -> None:
        """Put into a report what the suite ran on; comes last, being the last by name."""
        if not request.config.getoption(REPORT, None):
            return
        url = str(getattr(self, "url", None) or "")
        able: Any = declared
        about = {
            "about": (type(self).__doc__ or "").partition("\n")[0],
            "scheme": url.partition(":")[0],
            "against": dict(self.against()),
            "capabilities": [name for name, can in attrs.asdict(able).items() if can] if attrs.has(type(able)) else [],
        }
        request.node.user_properties.append((ABOUT, about))

    def _tell_area(self, request: pytest.FixtureRequest) -> None:
        """Put into a report where in the suites the test is written, and whether it was written anew."""
        name: str = getattr(request.node, "originalname", request.node.name)
        owners = [kind.__module__ for kind in type(self).__mro__ if name in vars(kind)]
        ours = [module for module in owners if module.startswith(_PACKAGE)]
        if ours:
            told = {"module": ours[-1].removeprefix(_PACKAGE), "rewritten": owners[0] != ours[0]}
            request.node.user_properties.append((AREA, told))

    def against(self) -> Mapping[str, str]:
        """Return what a run is against, name -> version: server, client library. For the report of the run."""
        return {}

    @pytest.fixture
    def declared(self) -> object:
        """Return the capabilities to go by; each suite asks its own."""
        return None

    def insist(self, call: Callable[[], T]) -> T:
        """Return what *call* returns, calling again while the service is unavailable, as core would."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return call()
            except UnavailableError:
                if time.monotonic() > deadline:
                    raise

    def cut(self) -> None:
        """Cut all connections that the clients of this test have opened; where there are none, skip the test."""
        if not cut(self._known):
            pytest.skip("opens no connection that could be cut")

    def result(self, future: Future[T], what: str) -> T:
        """Return what a thread returns; fail if it does not within ``PATIENCE``."""
        try:
            return future.result(timeout=self.PATIENCE)
        except TimeoutError:
            pytest.fail(f"not within {self.PATIENCE:g} s: {what}")

    def all_at_once(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Run *calls* in a thread each, started together, and return their results in order."""
        barrier = threading.Barrier(len(calls))

        def after_all(call: Callable[[], T]) -> Callable[[], T]:
            def run() -> T:
                barrier.wait(self.PATIENCE)
                return call()

            return run

        futures = [in_thread(after_all(call)) for call in calls]
        return [self.result(future, "all threads end") for future in futures]

    def spans(self, seconds: float, granularity: float) -> Iterator[Span]:
        """Yield times that are meant to end, each twice as long as the one before, beginning with *seconds*.

        For tests that must do something while one holds: they go on with the first that still does when it is done,
        so a machine that is busy makes them slower, and not wrong.
        """
        for doubled in range(_MOST_SPANS):
            yield Span(seconds * 2**doubled, granularity)
        pytest.fail(f"this machine is too slow: a step took more than {seconds * 2 ** (_MOST_SPANS - 2):g} s")

    def let_pass(self, seconds: float) -> None:
        """Let real time pass, where a test is about time itself."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(left)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a child process needs to make clients: all but the clients of this process."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}


def waits(limit: float) -> Iterator[float]:
    """Yield the waits to try one after the other until *limit* seconds have passed."""
    deadline = time.monotonic() + limit
    while (left := deadline - time.monotonic()) > 0:
        yield min(left, 1.0)
