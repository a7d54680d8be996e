"""No broker is asked for a delay above ``limits.max_delay``, whatever asks for one."""

from __future__ import annotations

import pytest

from queuekit import Queuekit, Signature, Snooze
from queuekit.broker import Limits, Place
from queuekit.retry import Fixed
from support.working import burst, inside, make_app

LONGEST = 10.0


@pytest.fixture
def app() -> Queuekit:
    """Return an app on a broker that delays for ten seconds at most."""
    app = make_app()
    app.runtime.broker.limits = Limits(max_delay=LONGEST)
    return app


def snooze() -> None:
    """Ask to be put off for an hour."""
    raise Snooze(3_600)


def fail() -> None:
    """Fail."""
    raise ValueError


@pytest.mark.parametrize("way", ["send", "retry", "snooze"])
def test_a_longer_delay_becomes_a_moment(app: Queuekit, way: str) -> None:
    """Which hops lead up to; the message itself counts neither a crash nor another attempt for it."""
    app.task(name="retry", retries=3, retry=Fixed(3_600.0))(fail)
    app.task(name="snooze")(snooze)
    app.send(Signature("snooze", delay=3_600) if way == "send" else Signature(way))

    burst(app)

    (stored,) = inside(app, Place.DELAYED)
    assert stored.envelope.delay <= LONGEST
    assert stored.envelope.not_before is not None
    assert stored.envelope.not_before > stored.sent_at + 3_500
    assert (stored.crashes, stored.envelope.attempt) == (0, int(way == "retry"))


def test_a_shorter_snooze_is_a_release(app: Queuekit) -> None:
    """It keeps its place, and needs no hop."""
    app.task(name="nap")(lambda: (_ for _ in ()).throw(Snooze(5)))
    app.send(Signature("nap"))

    burst(app)

    (stored,) = inside(app, Place.DELAYED)
    assert (stored.envelope.hop, stored.envelope.not_before) == (0, None)
