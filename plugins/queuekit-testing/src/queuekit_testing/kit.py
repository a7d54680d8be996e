"""What all suites share: gates, bounded waits, unique names, threads that cannot hang the run."""

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
from queuekit_testing.marks import (
    ABOUT,
    ABOVE_LEVEL,
    AREA,
    LEVEL,
    NEWEST_LEVEL,
    NOT_DECLARED,
    NOT_PROVED,
    PROBED,
    REPORT,
)
from queuekit_testing.processes import HANGS

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

_PACKAGE = "queuekit_testing."
_PROBE_PATIENCE = 2.0
"""Seconds of patience where a failure is expected and does no harm."""
_CLOCKS_APART = 900.0
"""Seconds by which the clocks of service and machine may differ. Time zones differ by at least a quarter of an hour."""
_MOST_SPANS = 8
_SLOW = 0.2
"""Seconds above which a call counts as slow, where something did not arrive."""


def needs(*capabilities: str, probe: bool = False) -> Callable[[F], F]:
    """Mark a test as one of *capabilities*: it is skipped unless all of them are declared.

    A test with *probe* runs even if one capability is missing, before all others. If the probes of a capability pass,
    its other tests run too; if they also pass, the closing lines say that the capability could be declared. So a probe
    must end quickly, whether it passes or fails.
    """

    def mark(test: F) -> F:
        test.__dict__["needs"] = capabilities
        test.__dict__["probe"] = probe
        return test

    return mark


def since(level: int) -> Callable[[F], F]:
    """Mark a test as added in *level*: it is skipped if ``KIT_LEVEL`` is lower."""

    def mark(test: F) -> F:
        test.__dict__["level"] = level
        return test

    return mark


def eventually(predicate: Callable[[], T], *, timeout: float = 10.0, what: str = "") -> T:
    """Call *predicate* until it returns a true value, and return that; fail after *timeout* seconds."""
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
        except BaseException as error:  # noqa: BLE001 - future.result() raises it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="conformance").start()
    return future


def need_hypothesis() -> Any:
    """Return Hypothesis; if it is missing, skip the test with the command that installs it."""
    return pytest.importorskip("hypothesis", reason="needs Hypothesis:  pip install 'queuekit-testing[kit]'")


def assert_time_of_day(name: str, moment: float) -> None:
    """Fail unless *moment* is the current UTC time in epoch seconds, within 15 minutes of this machine's clock."""
    off = moment - time.time()
    assert abs(off) < _CLOCKS_APART, f"{name} is {off:.0f} s off this machine's clock: not UTC epoch seconds?"


def unique_name(prefix: str) -> str:
    """Return a name that no other test, process or earlier run uses."""
    return f"{prefix}-{os.urandom(6).hex()}"


class Span:
    """A limited time that starts when this object is made: a lease, a delay, a TTL.

    Args:
        seconds: Duration on the server.
        granularity: Seconds by which the server may round it.
    """

    def __init__(self, seconds: float, granularity: float) -> None:
        self.seconds = seconds
        self._granularity = granularity
        self._begin = time.monotonic()

    def holds(self) -> bool:
        """Return whether the time cannot have ended yet, however the server rounds."""
        return time.monotonic() - self._begin < max(self.seconds - self._granularity, 0.4 * self.seconds)

    @property
    def rest(self) -> float:
        """Seconds until the time must have ended, if the server started it within 0.05 s of this object."""
        return max(0.0, self._begin + 1.05 * self.seconds + self._granularity + 0.05 - time.monotonic())


class Conformance:
    """Base of the suites."""

    KIT_LEVEL: ClassVar[int] = 1
    """The suite runs tests up to this level. A new version of queuekit may add a level; its tests do not run until you
    raise this number. The closing line counts them."""
    EMULATOR: ClassVar[Mapping[str, str]] = {}
    """For runs against an emulator of the service: name of a test that it cannot pass -> reason. These tests are
    expected to fail and a pass is an error. The closing line counts them as not proved."""
    EMULATOR_AT_TIMES: ClassVar[Mapping[str, str]] = {}
    """Like ``EMULATOR``, for tests that fail only sometimes: they are not run."""
    NOT_PROMISED: ClassVar[Mapping[str, str]] = {}
    """Undeclared capability whose tests pass here -> reason. The closing lines do not propose to declare it."""
    CLOCK_OF_ITS_OWN: ClassVar[bool] = True
    """Whether leases and delays run on the service's own clock. Set ``False`` for an engine that uses the clock of its
    clients, such as files: then no test sets a client's clock ahead (QK11)."""
    EXAMPLES: ClassVar[int] = 20
    """Runs of the state machine, of 20 steps each; 0 for none."""
    SHORT: float = 0.25
    """Seconds of a lease or delay that a test lets end; raised to what the limits of the service require. An
    in-process engine may use less, for a faster suite."""
    PATIENCE: float = 60.0
    """Seconds a test waits for something that must happen before it fails. Only a failing test waits that long, so
    choose more than the slowest machine needs."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not 1 <= cls.KIT_LEVEL <= NEWEST_LEVEL:
            raise TypeError(f"{cls.__name__}.KIT_LEVEL must be from 1 to {NEWEST_LEVEL}, got {cls.KIT_LEVEL}")
        tests = [name for name in dir(cls) if name.startswith("test_")]
        for table in ("EMULATOR", "EMULATOR_AT_TIMES"):
            cls._refuse_unknown(table, "test", tests)
        wanted = {word for name in tests for word in getattr(getattr(cls, name), "needs", ())}
        if wanted:
            cls._refuse_unknown("NOT_PROMISED", "capability", wanted)

    @classmethod
    def _refuse_unknown(cls, table: str, kind: str, known: Collection[str]) -> None:
        """Refuse an unknown name in *table*, which would otherwise have no effect."""
        for name in getattr(cls, table):
            if name not in known:
                fix = did_you_mean(name, sorted(known)) or f"known: {', '.join(sorted(known))}"
                raise TypeError(f"{cls.__name__}.{table}: unknown {kind} {name!r}; {fix}")

    _known: Collection[int] = ()
    """Connections that were open before the test."""

    @property
    def patience(self) -> float:
        """Seconds that a test waits on this service for something that must happen."""
        return self.PATIENCE

    @property
    def hangs(self) -> float:
        """Seconds after which a child process counts as hanging: at least 120, and at least ``PATIENCE``."""
        return max(HANGS, self.PATIENCE)

    @pytest.fixture
    def server(self, tmp_path: Path) -> object:
        """Prepare what the clients connect to. Override it to start a server or to choose a file. It runs first."""
        return tmp_path

    @pytest.fixture(autouse=True)
    def _at_level(self, request: pytest.FixtureRequest) -> None:
        """Skip a test of a later level. It runs first, because pytest orders these fixtures by name."""
        level: int = getattr(request.function, "level", 1)
        request.node.user_properties.append((LEVEL, self.KIT_LEVEL))
        if request.config.getoption(REPORT, None):
            self._tell_area(request)
        if level > self.KIT_LEVEL:
            pytest.skip(f"{ABOVE_LEVEL}{level}")

    @pytest.fixture(autouse=True)
    def _expect_faults(self, request: pytest.FixtureRequest) -> None:
        """Mark the tests that an emulator cannot pass as strict expected failures, or skip them."""
        name: str = getattr(request.node, "originalname", request.node.name)
        if name in self.EMULATOR_AT_TIMES:
            pytest.skip(NOT_PROVED + self.EMULATOR_AT_TIMES[name])
        if name in self.EMULATOR:
            self.PATIENCE = min(self.PATIENCE, _PROBE_PATIENCE)
            request.node.add_marker(pytest.mark.xfail(reason=NOT_PROVED + self.EMULATOR[name], strict=True))

    @pytest.fixture(autouse=True)
    def _gate(self, request: pytest.FixtureRequest, declared: object) -> None:
        """Skip a test of an undeclared capability, or run it as a probe."""
        wanted: tuple[str, ...] = getattr(request.function, "needs", ())
        missing = [name for name in wanted if not getattr(declared, name)]
        if not missing:
            return
        reason = NOT_DECLARED + ", ".join(missing)
        if len(missing) > 1 or missing[0] in self.NOT_PROMISED:
            pytest.skip(reason)
        if not getattr(request.function, "probe", False) and not PROBED.get((type(self).__qualname__, missing[0])):
            pytest.skip(reason)
        self.PATIENCE = min(self.PATIENCE, _PROBE_PATIENCE)
        request.node.add_marker(pytest.mark.xfail(reason=reason, strict=False))

    @pytest.fixture(autouse=True)
    def _tell_what_about(self, request: pytest.FixtureRequest, declared: object) -> None:
        """Add to the report what the suite ran against. It runs last, because pytest orders these fixtures by name."""
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
        """Add to the report which module of the suites defines the test, and whether a subclass overrides it."""
        name: str = getattr(request.node, "originalname", request.node.name)
        owners = [kind.__module__ for kind in type(self).__mro__ if name in vars(kind)]
        ours = [module for module in owners if module.startswith(_PACKAGE)]
        if ours:
            told = {"module": ours[-1].removeprefix(_PACKAGE), "rewritten": owners[0] != ours[0]}
            request.node.user_properties.append((AREA, told))

    def against(self) -> Mapping[str, str]:
        """Return what the run is against, for its report: name of server or client library -> version."""
        return {}

    @pytest.fixture
    def declared(self) -> object:
        """Return the capabilities that decide which tests run; each suite overrides it."""
        return None

    def insist(self, call: Callable[[], T]) -> T:
        """Return the result of *call*; repeat it while the service is unavailable, as core does."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return call()
            except UnavailableError:
                if time.monotonic() > deadline:
                    raise

    def cut(self) -> None:
        """Cut all connections that the clients of this test have opened; if there are none, skip the test."""
        if not cut(self._known):
            pytest.skip("opens no connection to cut")

    def result(self, future: Future[T], what: str) -> T:
        """Return the result of a thread; fail if it takes longer than ``PATIENCE``."""
        try:
            return future.result(timeout=self.PATIENCE)
        except TimeoutError:
            pytest.fail(f"not within {self.PATIENCE:g} s: {what}")

    def all_at_once(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Run each of *calls* in its own thread, started together, and return their results in order."""
        barrier = threading.Barrier(len(calls))

        def after_all(call: Callable[[], T]) -> Callable[[], T]:
            def run() -> T:
                barrier.wait(self.PATIENCE)
                return call()

            return run

        futures = [in_thread(after_all(call)) for call in calls]
        return [self.result(future, "all threads end") for future in futures]

    def spans(self, seconds: float, granularity: float) -> Iterator[Span]:
        """Yield time limits, each twice as long as the one before, starting with *seconds*.

        For tests with a step that must end before the time does: they use the first limit that was long enough. So a
        busy machine makes them slower, but not wrong.
        """
        for doubled in range(_MOST_SPANS):
            yield Span(seconds * 2**doubled, granularity)
        longest = seconds * 2 ** (_MOST_SPANS - 1)
        pytest.fail(
            f"the service or this machine is too slow, and nothing else is wrong here: the calls of this test took "
            f"more than {longest:g} s; raise {type(self).__name__}.SHORT"
        )

    def let_pass(self, seconds: float) -> None:
        """Let real time pass, in tests about time itself."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(left)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a child process needs to make clients: everything except the clients of this process."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}


def slow(seconds: float, patience: float) -> str:
    """Return what to add to a failure if one call took *seconds* more than it was asked to wait."""
    if seconds < max(_SLOW, patience / 10):
        return ""
    return f"; the service is slow: one call took {seconds:.1f} s longer than its wait. Raise PATIENCE"


def waits(limit: float) -> Iterator[float]:
    """Yield timeouts of at most 1 s until *limit* seconds have passed."""
    deadline = time.monotonic() + limit
    while (left := deadline - time.monotonic()) > 0:
        yield min(left, 1.0)
