"""What an operator does with limits: see who waits, change numbers, let a key start; each with who did it."""

import json
from functools import partial
from pathlib import Path

import pytest

from queuekit import Queuekit
from queuekit.backend import Record
from queuekit.clock import VirtualClock
from queuekit.errors import OptionError
from queuekit.limiting.rates import slowed
from queuekit.limits import LimitView, Rate, arg
from queuekit.operations.admin import Admin
from queuekit.operations.limits import free_limit, list_limits, set_limit, unset_limit
from support import commands
from support.working import make_app


@pytest.fixture
def app() -> Queuekit:
    """Return an app with a limited task."""
    made = make_app(clock=VirtualClock())
    made.task(name="pay", limits=[Rate("1/m", key=arg("tenant"), name="stripe")])(lambda tenant: tenant)
    return made


def test_lists_what_tasks_declare(app: Queuekit) -> None:
    """A limit that nobody waits for is listed with its numbers."""
    assert list_limits(app) == [LimitView(name="stripe", limit="1/m")]


def test_lists_keys_that_have_to_wait(app: Queuekit) -> None:
    """Each with the time of the next start, and until when a task has slowed it down."""
    now = app.runtime.now()
    with app.limit("stripe", key="acme"):
        pass
    app.runtime.need_backend("a test").put([slowed("stripe", "b", until=now + 30, seconds=30)])

    _, acme, other = list_limits(app)

    assert [acme.key, other.key] == ["acme", "b"]
    assert acme.next_start == pytest.approx(now + 60)
    assert other.until == pytest.approx(now + 30)


def test_says_who_set_the_numbers(app: Queuekit) -> None:
    """Numbers that an operator set are shown with a name, and recorded as an action."""
    set_limit(app, "stripe", "50/1m", burst=3, by="ann")

    (view,) = list_limits(app)
    (action,) = Admin(app).actions()

    assert (view.limit, view.burst, view.set_by) == ("50/m", 3, "ann")
    assert (action.what, action.on, action.by) == ("limits set 50/m", "stripe", "ann")


def test_refuses_a_long_name_of_a_person(app: Queuekit) -> None:
    """Whatever is changed, and before it is."""
    set_limit(app, "stripe", "50/m", by="ann")

    for change in (partial(set_limit, app, "stripe", "60/m"), partial(unset_limit, app, "stripe")):
        with pytest.raises(OptionError, match="limit of 200"):
            change(by="x" * 201)
    with pytest.raises(OptionError, match="limit of 200"):
        free_limit(app, "stripe", by="x" * 201)

    assert [action.by for action in Admin(app).actions()] == ["ann"]


def test_numbers_of_the_code_come_back(app: Queuekit) -> None:
    """Nothing is left of what was set."""
    set_limit(app, "stripe", "50/m")

    assert unset_limit(app, "stripe")
    assert not unset_limit(app, "stripe")
    assert list_limits(app) == [LimitView(name="stripe", limit="1/m")]


def test_frees_a_key(app: Queuekit) -> None:
    """The next start is at once; to free it again changes nothing."""
    with app.limit("stripe", key="acme"):
        pass

    assert free_limit(app, "stripe", "acme")
    assert not free_limit(app, "stripe", "acme")
    assert list_limits(app) == [LimitView(name="stripe", limit="1/m")]


@pytest.mark.parametrize("limit", ["", "x", "0/m", "5"])
def test_refuses_what_is_no_rate(app: Queuekit, limit: str) -> None:
    """What workers could not read is not written."""
    with pytest.raises(OptionError):
        set_limit(app, "stripe", limit)


def test_bears_with_any_record(app: Queuekit) -> None:
    """A record that cannot be read hides no other."""
    records = [Record(key=f"{kind}:x", body=b"[]") for kind in ("limit", "rate", "slow")]
    app.runtime.need_backend("a test").put(records)

    assert {view.name for view in list_limits(app)} >= {"stripe"}


def test_commands_show_and_change_limits(tmp_path: Path) -> None:
    """From the shell: set, list as a table and as JSON, and free."""
    commands.write(tmp_path, {"queuekit.toml": 'broker = "sqlite:///queue.db"\n'})

    commands.queuekit("limits", "set", "stripe", "50/m", "--as", "ann", folder=tmp_path)
    table = commands.queuekit("limits", folder=tmp_path)
    listed = json.loads(commands.queuekit("limits", "ls", "--json", folder=tmp_path).stdout)
    freed = commands.queuekit("limits", "free", "stripe", "acme", folder=tmp_path)

    assert table.stdout.split() == [
        "NAME",
        "KEY",
        "LIMIT",
        "BURST",
        "SET",
        "BY",
        "HELD",
        "WAITING",
        "NEXT",
        "START",
        "stripe",
        "-",
        "50/m",
        "1",
        "ann",
        "0",
        "0",
        "at",
        "once",
    ]
    assert [(one["name"], one["limit"], one["set_by"]) for one in listed] == [("stripe", "50/m", "ann")]
    assert (freed.returncode, "Nothing had to wait." in freed.stderr) == (1, True)
