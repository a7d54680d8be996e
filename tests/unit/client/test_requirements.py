"""What tasks ask of the engines is refused at the start."""

from typing import Any

import pytest

from queuekit import Signature, every
from queuekit.broker import Capabilities
from queuekit.client.requirements import require, unmet_requirements
from queuekit.errors import CapabilityError
from support.working import make_app


@pytest.mark.parametrize(
    ("options", "settings", "line"),
    [
        pytest.param({"track": True}, {"backend": "none"}, "t asks for track, which needs", id="track"),
        pytest.param({"priority": 9}, {}, "t asks for priority, which memory:// does not support", id="priority"),
    ],
)
def test_names_task_and_option(options: dict[str, Any], settings: dict[str, Any], line: str) -> None:
    """And the engine that cannot do it."""
    app = make_app(**settings)
    app.task(name="t", **options)(print)
    app.runtime.broker.capabilities = Capabilities(priority=False)

    (refusal,) = unmet_requirements(app.runtime, app.tasks)

    assert refusal.startswith(line)


def test_what_is_the_default_anyway_is_no_demand() -> None:
    """Priority 4 is what every message has."""
    app = make_app()
    app.task(name="t", priority=4)(print)
    app.runtime.broker.capabilities = Capabilities(priority=False)

    assert list(unmet_requirements(app.runtime, app.tasks)) == []


def test_schedules_need_a_backend() -> None:
    """What is periodic is refused where there is nowhere to keep how far it has come."""
    app = make_app(backend="none")
    app.periodic(every("1h"), Signature("t"), name="hourly")

    (refusal,) = unmet_requirements(app.runtime, app.tasks, app.declared)

    assert refusal == "the schedule hourly needs a result backend"
    assert list(unmet_requirements(make_app().runtime, {}, app.declared)) == []


def test_shows_a_few_of_many() -> None:
    """The report stays short and says how many there are."""
    app = make_app(backend="none")
    for number in range(5):
        app.task(name=f"t{number}", track=True)(print)

    with pytest.raises(CapabilityError) as caught:
        require(app.runtime, app.tasks)

    assert caught.value.where.splitlines()[-1].strip() == "... and 2 more"
    assert len(caught.value.lines()) <= 6
