"""The time of the result backend, for a broker whose service does not tell the time; and what is refused without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from queuekit import Queuekit, Signature
from queuekit.broker import Broker, Capabilities, Limits, Place
from queuekit.clock import VirtualClock
from queuekit.engines.backend_clock import BackendClock
from queuekit.engines.memory import MemoryBackend, MemoryBroker
from queuekit.errors import CapabilityError, UnavailableError
from queuekit.hookspecs import BrokerSpec, hookimpl
from queuekit.retry import Fixed
from queuekit.urls import EngineURL
from queuekit_testing.kit import unique_name
from support.working import burst, inside

DAY = 86_400.0


class Told(MemoryBackend):
    """A backend whose clock is a day ahead of the machine, or tells nothing, or does not answer."""

    def __init__(self, clock: VirtualClock, answer: float | UnavailableError | None) -> None:
        super().__init__(EngineURL.parse(f"memory://{unique_name('told')}"), clock=clock)
        self._machine, self.answer, self.asked = clock, answer, 0

    def now(self) -> float | None:
        """Return the answer, counted from the machine's time."""
        self.asked += 1
        if isinstance(self.answer, UnavailableError):
            raise self.answer
        return None if self.answer is None else self._machine.time() + self.answer


def following(answer: float | UnavailableError | None) -> tuple[VirtualClock, Told, BackendClock]:
    """Return a machine's clock, a backend, and the clock that follows it."""
    machine = VirtualClock()
    backend, clock = Told(machine, answer), BackendClock(machine)
    clock.follow(backend)
    return machine, backend, clock


def test_tells_the_time_of_the_backend() -> None:
    """Asked once a minute, and counted on in between."""
    machine, backend, clock = following(DAY)

    for _ in range(3):
        assert clock.time() == machine.time() + DAY
        machine.advance(25)
    backend.answer = 2 * DAY
    machine.advance(25)

    assert (clock.time(), backend.asked) == (machine.time() + 2 * DAY, 2)


def test_is_the_machine_s_clock_where_none_is_told() -> None:
    """A backend that tells no time, and a clock that follows none."""
    machine, _, clock = following(None)

    assert clock.time() == machine.time()
    assert BackendClock(machine).time() == machine.time()


def test_goes_on_while_the_backend_does_not_answer() -> None:
    """What was told before is as good; the answer is waited for no more than once a minute."""
    machine, backend, clock = following(DAY)
    assert clock.time() == machine.time() + DAY
    backend.answer = UnavailableError("down")
    machine.advance(90)

    assert {clock.time() for _ in range(3)} == {machine.time() + DAY}
    assert backend.asked == 2


def test_measures_by_the_machine() -> None:
    """Intervals and waits have nothing to do with the time of day."""
    machine, backend, clock = following(DAY)
    machine.advance(7)

    assert (clock.monotonic(), backend.asked) == (machine.monotonic(), 0)


# -- an app --------------------------------------------------------------------------------------------------------


class Timeless(MemoryBroker):
    """A broker that knows the time from its clock alone."""

    capabilities = attrs.evolve(MemoryBroker.capabilities, tells_time=False, commit=False)
    made: list[Any] = []  # noqa: RUF012 - what the factory was given, for the test to see

    def __init__(self, url: EngineURL, *, options: Any = None, clock: Any = None, random: Any = None) -> None:
        super().__init__(url, options=options, clock=clock, random=random)
        self.made.append(clock)


class TimelessPlugin:
    """Serves ``timeless://``."""

    def __init__(self, **limits: Any) -> None:
        self.limits = Limits(**limits)

    @hookimpl
    def queuekit_brokers(self) -> list[BrokerSpec]:
        """Return the broker."""
        spec = BrokerSpec(schemes=("timeless",), factory=Timeless, capabilities=Timeless.capabilities)
        return [attrs.evolve(spec, limits=self.limits)]


@contextmanager
def timeless_app(*, tells: bool, **limits: Any) -> Iterator[Queuekit]:
    """Yield an app on such a broker, with a backend that tells the time or does not."""
    app = Queuekit(broker=f"timeless://{unique_name('app')}", backend="memory://results")
    app.plugins.register(TimelessPlugin(**limits), unique_name("timeless"))
    app.task(name="echo")(lambda: None)
    assert app.runtime.backend is not None
    if limits:
        app.runtime.broker.limits = Limits(**limits)
    if not tells:
        object.__setattr__(app.runtime.backend, "now", lambda: None)
    yield app
    app.close()


def test_an_app_gives_the_broker_the_time_of_its_backend() -> None:
    """The clock that the factory gets follows the backend of the app."""
    with timeless_app(tells=True) as app:
        clock = Timeless.made[-1]
        assert app.runtime.backend is not None
        reported = app.runtime.backend.now()
        assert reported is not None
        object.__setattr__(app.runtime.backend, "now", lambda: reported + DAY)

        assert isinstance(clock, BackendClock)
        assert clock.time() > reported + DAY / 2


ASKED: dict[str, dict[str, Any]] = {
    "expires": {"expires": 60},
    "eta": {"eta": datetime(2040, 1, 1, tzinfo=UTC)},
    "a delay above 900 s": {"delay": 901},
}


@pytest.mark.parametrize("what", ASKED)
def test_refuses_what_needs_a_time_that_nobody_tells(what: str) -> None:
    """In words, when it is sent; with a backend that tells the time it is sent."""
    with timeless_app(tells=False, max_delay=900.0) as app:
        with pytest.raises(CapabilityError, match=f"echo asks for {what}, but neither timeless:// nor the result back"):
            app.send(Signature("echo", **ASKED[what]))
        app.send(Signature("echo", delay=10))
    with timeless_app(tells=True, max_delay=900.0) as app:
        app.send(Signature("echo", **ASKED[what]))


@pytest.mark.parametrize("tells", [True, False])
def test_retries_without_a_moment_where_none_is_told(*, tells: bool) -> None:
    """The next attempt waits for its delay alone: a moment would be on the clock of one worker."""
    with timeless_app(tells=tells) as app:

        @app.task(name="fails", retries=1, retry=Fixed(600.0))
        def fails() -> None:
            raise ValueError

        fails.send()
        burst(app)

        (again,) = inside(app, Place.DELAYED)
        assert (again.envelope.not_before is not None) is tells


def test_refuses_to_start_with_a_task_that_expires() -> None:
    """Told before the first message."""
    with timeless_app(tells=False) as app:
        app.task(name="dated", expires=60)(lambda: None)

        with pytest.raises(CapabilityError, match="dated asks for expires, but neither timeless:// nor"):
            burst(app)


def test_a_broker_declares_that_it_tells_the_time() -> None:
    """So it is for those written before there was a choice."""
    assert Capabilities().tells_time
    assert Broker.capabilities.tells_time
