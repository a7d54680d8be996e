"""What all suites have in common: gates, bounded waits, fresh names, threads that cannot hang the run."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from queuekit.errors import did_you_mean

__all__ = ["NOT_DECLARED", "NOT_PROVED", "Conformance", "eventually", "in_thread", "needs", "unique_name"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

NOT_DECLARED = "capability not declared: "
"""How the reason of a skip begins."""
NOT_PROVED = "not proved here (emulator): "
"""How the reason of an expected failure begins."""


def needs(*capabilities: str) -> Callable[[F], F]:
    """Mark a test as one of *capabilities*: where one of them is not declared, it is skipped."""

    def mark(test: F) -> F:
        test.__dict__["needs"] = capabilities
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


def unique_name(prefix: str) -> str:
    """Return a name that no other test, process or earlier run has used."""
    return f"{prefix}-{os.urandom(6).hex()}"


class Conformance:
    """Base of the suites."""

    EMULATOR: ClassVar[Mapping[str, str]] = {}
    """For runs against an imitation of the service: name of a test that it cannot pass -> why. Those tests are
    expected to fail, a pass is an error, and the closing line counts what is left unproved."""
    SHORT: float = 0.25
    """Seconds of a lease or delay that is meant to end; more where the limits of the service ask for it. Within a
    process it may be less, so that the suite is quicker."""
    PATIENCE: float = 10.0
    """Seconds after which what should happen counts as not happening. Only failures take that long."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        tests = [name for name in dir(cls) if name.startswith("test_")]
        for name in cls.EMULATOR:
            if name not in tests:
                raise TypeError(f"{cls.__name__}.EMULATOR: no test is called {name!r}; {did_you_mean(name, tests)}")

    @pytest.fixture
    def server(self, tmp_path: Path) -> object:
        """Prepare what the clients talk to. Override it to start a server or to choose a file; it comes first."""
        return tmp_path

    @pytest.fixture(autouse=True)
    def _expect_faults(self, request: pytest.FixtureRequest) -> None:
        """Turn the tests that an emulator is known to fail into strict expected failures."""
        name: str = getattr(request.node, "originalname", request.node.name)
        if name in self.EMULATOR:
            request.node.add_marker(pytest.mark.xfail(reason=NOT_PROVED + self.EMULATOR[name], strict=True))

    @pytest.fixture(autouse=True)
    def _gate(self, request: pytest.FixtureRequest, declared: object) -> None:
        """Skip a test of something that is not declared."""
        wanted: tuple[str, ...] = getattr(request.function, "needs", ())
        missing = [name for name in wanted if not getattr(declared, name)]
        if missing:
            pytest.skip(NOT_DECLARED + ", ".join(missing))

    @pytest.fixture
    def declared(self) -> object:
        """Return the capabilities to go by; each suite asks its own."""
        return None

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
