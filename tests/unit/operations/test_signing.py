"""What an operator sees and does of signatures: the check, dead letters, schedules."""

import re

import attrs
import pytest

from queuekit import Queuekit, Signature, every
from queuekit.backend import Record
from queuekit.broker import Place
from queuekit.envelope import Envelope
from queuekit.errors import ConfigError, ScheduleError, UnknownScheduleError
from queuekit.events import MessageDead
from queuekit.operations.admin import Admin
from queuekit.schedules.schedule import entry_key
from support.working import burst, inside, make_app, seen, take_one

KEY, OTHER = "k" * 40, "o" * 40


def of_one_engine(*keys: list[str]) -> list[Queuekit]:
    """Return apps with these keys on one memory engine."""
    first = make_app(signing_keys=keys[0])
    apps = [first, *(Queuekit(broker=first.config.broker, signing_keys=more) for more in keys[1:])]
    for app in apps:
        app.task(name="t")(print)
    return apps


def problems(app: Queuekit) -> list[str]:
    """Return what the check finds of signatures."""
    return [line.removeprefix("signing: ") for line in Admin(app).check() if line.startswith("signing: ")]


def test_check_tells_what_waits_unsigned() -> None:
    """Before a fleet requires signatures."""
    plain, signed = of_one_engine([], [KEY])
    plain.tasks["t"].send()
    plain.tasks["t"].options(delay=60).send()

    assert problems(signed) == ["2 of the next messages of default would be refused: it is not signed"]


def test_check_tells_of_messages_that_another_key_has_signed() -> None:
    """By the id of the key."""
    other, signed = of_one_engine([OTHER], [KEY])
    other.tasks["t"].send()

    (line,) = problems(signed)

    assert other.config.signing_keys[0].id in line
    assert OTHER not in line


def test_check_tells_of_signatures_that_nobody_checks() -> None:
    """A worker that was forgotten in a change of settings runs everything."""
    signed, plain = of_one_engine([KEY], [])
    signed.tasks["t"].send()

    (line,) = problems(plain)

    assert "signing_keys is not set here" in line


def test_check_asks_no_backend_for_schedules_that_it_cannot_list() -> None:
    """Such a backend keeps none, and the check must end with its other results."""
    plain, signed = of_one_engine([], [KEY])
    plain.schedules.add("job", every("1h"), Signature("t"))
    backend = signed.runtime.backend
    assert backend is not None
    backend.capabilities = attrs.evolve(backend.capabilities, scan=False)

    assert problems(signed) == []


def test_check_is_silent_where_all_is_signed() -> None:
    """And where nothing is, and there are no keys."""
    signed, plain = make_app(signing_keys=[KEY]), make_app()
    for app in (signed, plain):
        app.task(name="t")(print)
        app.tasks["t"].send()
        app.schedules.add("job", every("1h"), Signature("t"))

    assert problems(signed) == problems(plain) == []


def test_a_dead_letter_says_why_and_an_event_is_emitted() -> None:
    """The dead letters show the reason, and the log has a line."""
    plain, signed = of_one_engine([], [KEY])
    sent = plain.tasks["t"].send()
    events = seen(signed, MessageDead)

    burst(signed)

    (letter,) = Admin(signed).dead()
    assert (letter.id, letter.stored.reason, letter.stored.error) == (sent.id, "unsigned", "it is not signed")
    assert [(event.reason, event.error) for event in events] == [("unsigned", "it is not signed")]


def test_a_look_at_what_nobody_signed_runs_no_code() -> None:
    """An unsafe serializer reads for an operator only what was signed."""
    plain = make_app(serializer="pickle", allow_unsafe=["pickle"])
    signed = Queuekit(broker=plain.config.broker, signing_keys=[KEY], serializer="pickle", allow_unsafe=["pickle"])
    ids = []
    for app in (plain, signed):
        app.task(name="t")(lambda _value: None)
        ids.append(app.tasks["t"].send(1).id)

    shown = [Admin(signed).show(id).message for id in ids]

    assert shown[0] is None
    assert shown[1] is not None


def test_only_an_unsigned_dead_letter_is_signed() -> None:
    """One that failed for another reason stays, and so does one that nobody named."""
    plain, signed = of_one_engine([], [KEY])
    one, two = plain.tasks["t"].send(), plain.tasks["t"].send()
    signed.task(name="boom")(lambda: 1 / 0)
    signed.tasks["boom"].send()
    burst(signed)

    assert Admin(signed).replay_signed("default", [one.id]) == [one.id]
    assert {letter.id for letter in Admin(signed).dead()} > {two.id}
    assert Admin(signed).replay_signed("default") == [two.id]
    burst(signed)
    assert [letter.stored.reason for letter in Admin(signed).dead()] == ["failed"]


def test_a_signed_replay_is_pending_again_and_gets_all_its_retries() -> None:
    """As other replays."""
    plain, signed = of_one_engine([], [KEY])
    sent = plain.tasks["t"].send()
    burst(signed)

    Admin(signed).replay_signed("default", [sent.id])

    (waiting,) = inside(signed, Place.READY)
    assert (waiting.envelope.generation, waiting.envelope.attempt) == (1, 0)
    assert Admin(signed).show(sent.id).info.generation == 1


def test_what_has_no_header_stays_dead() -> None:
    """It cannot be signed, and does not keep the others from it."""
    plain, signed = of_one_engine([], [KEY])
    plain.runtime.broker.send([Envelope(id="noise", queue="default", body=b"noise")])
    sent = plain.tasks["t"].send()
    burst(signed)

    assert Admin(signed).replay_signed("default") == [sent.id]
    assert [letter.id for letter in Admin(signed).dead()] == ["noise"]


def test_nothing_is_signed_without_a_key() -> None:
    """It says which setting is missing."""
    app = make_app()

    with pytest.raises(ConfigError, match="needs a key"):
        Admin(app).replay_signed("default")
    with pytest.raises(ScheduleError, match="needs a key"):
        app.schedules.sign("job")


def stripped(record: Record) -> Record:
    """Return *record* without its signature."""
    return attrs.evolve(record, body=re.sub(rb',"sig":"[^"]*"', b"", record.body))


def rewritten(app: Queuekit, change: bytes | None = None) -> None:
    """Take the signature from the schedule ``job``, or change what it calls and leave it."""
    backend, key = app.runtime.backend, entry_key("job")
    assert backend is not None
    record = backend.get([key])[key]
    body = record.body.replace(b'"task":"t"', b'"task":"' + (change or b"") + b'"')
    backend.put([stripped(record) if change is None else attrs.evolve(record, body=body)])


@pytest.mark.parametrize("change", [None, b"evil"], ids=["unsigned", "changed"])
def test_a_schedule_that_nobody_signed_is_set_aside(change: bytes | None) -> None:
    """It sends nothing, whoever leads; the check and the list name it."""
    app = make_app(signing_keys=[KEY])
    app.task(name="t")(print)
    app.schedules.add("job", every("1h"), Signature("t"))
    rewritten(app, change)

    with pytest.raises(ScheduleError, match="set aside"):
        app.schedules.run("job")
    assert list(app.schedules.set_aside()) == ["job"]
    assert app.schedules.all() == []
    assert any(line.startswith("the schedule job is refused") for line in problems(app))


def test_an_operator_signs_a_schedule() -> None:
    """Then it sends its ticks again; all else of it stays as it was."""
    app = make_app(signing_keys=[KEY])
    app.task(name="t")(print)
    app.schedules.add("job", every("1h"), Signature("t"))
    app.schedules.pause("job")
    rewritten(app)

    app.schedules.sign("job")

    assert app.schedules.get("job").entry.paused
    assert app.schedules.run("job").id == take_one(app).id
    assert problems(app) == []


def test_a_schedule_of_an_old_key_is_named_until_it_is_signed() -> None:
    """So that the old key can be dropped."""
    old, both = of_one_engine([OTHER], [KEY, OTHER])
    old.schedules.add("job", every("1h"), Signature("t"))

    (line,) = problems(both)
    both.schedules.sign("job")

    assert line.startswith("the schedule job is not signed by the first key")
    assert problems(both) == []


def test_an_unknown_schedule_is_told() -> None:
    """As by every other command."""
    with pytest.raises(UnknownScheduleError):
        make_app(signing_keys=[KEY]).schedules.sign("job")


def test_a_declared_schedule_is_signed_by_the_code_that_declares_it() -> None:
    """At the start of its worker, also with a new key."""
    old, new = of_one_engine([OTHER], [KEY, OTHER])
    for app in (old, new):
        app.periodic(every("1h"), Signature("t"), name="job")
        burst(app)

    assert problems(new) == []
