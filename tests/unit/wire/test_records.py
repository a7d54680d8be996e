"""The records that core keeps: written once, read back as what was known."""

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.backend import Record
from queuekit.broker import Delivery
from queuekit.envelope import Envelope
from queuekit.errors import DecodeError
from queuekit.serializer import JsonSerializer
from queuekit.states import State
from queuekit.wire.records import (
    Info,
    cancel_mark,
    entered_keys,
    entered_mark,
    failed,
    moved,
    pending,
    progress_key,
    read_info,
    result_key,
    succeeded,
    worker_key,
)

DELIVERY = Delivery(
    envelope=Envelope(id="id-1", queue="q", body=b"", attempt=2, generation=1),
    token="t",  # noqa: S106 - the token of a lease
    number=3,
    sent_at=100.5,
)
RUN = {"worker": "w", "started": 110.0, "finished": 112.0}


def test_keys_are_kind_and_id() -> None:
    """People who look into the store find a record by its kind and the message's id."""
    keys = [result_key("id-1"), cancel_mark("id-1", ttl=1).key, progress_key("id-1"), worker_key("w")]

    assert keys == ["result:id-1", "cancel:id-1", "progress:id-1", "worker:w"]


def test_success_reads_back() -> None:
    """Result, times, attempt and worker are what they were."""
    record = succeeded(
        DELIVERY, task="t", value=b'{"a":1}', content_type="json", ttl=60, worker="w", times=(110.0, 112.0)
    )

    info = read_info("id-1", record)

    assert (info.state, info.task, info.queue, info.attempt, info.generation) == (State.SUCCESS, "t", "q", 2, 1)
    assert (info.sent, info.started, info.finished, info.worker) == (100.5, 110.0, 112.0, "w")
    assert info.value({"json": JsonSerializer()}) == {"a": 1}
    assert (record.final, record.ttl, record.state, record.at, info.done) == (True, 60, "SUCCESS", 112.0, True)


@given(
    st.floats(0, 2e10),
    st.integers(0, 10**9),
    st.sampled_from(["json", "x-y", "50%d"]),
    st.sampled_from(["w-1", "wörk"]),
)
def test_success_reads_back_without_a_parser_as_with_one(at: float, attempt: int, kind: str, worker: str) -> None:
    """A header that is recognised as usual says what it would say to a JSON parser."""
    delivery = attrs.evolve(DELIVERY, sent_at=at, envelope=attrs.evolve(DELIVERY.envelope, attempt=attempt))
    record = succeeded(delivery, task="t", value=b"1", content_type=kind, ttl=60, worker=worker, times=(at, at + 1))
    head, value = record.body.split(b"\n", 1)
    parsed = attrs.evolve(record, body=json.dumps(json.loads(head)).encode() + b"\n" + value)

    assert read_info("id-1", record) == read_info("id-1", parsed)


def test_success_of_a_serializer_with_any_name_reads_back() -> None:
    """A percent sign in what every success of a task has in common is a letter like any other."""
    record = succeeded(DELIVERY, task="t", value=b"1", content_type="50%d", ttl=60, worker="w", times=(110.0, 112.0))

    info = read_info("id-1", record)

    assert (info.content_type, info.started, info.finished) == ("50%d", 110.0, 112.0)


def test_failure_reads_back() -> None:
    """Error type, text and traceback are what they were; the store's own field has the first two."""
    error = {"type": "ValueError", "text": "no \udc80", "traceback": "Traceback ..."}
    record = failed(DELIVERY, state=State.FAILURE, task="t", ttl=60, run=dict(RUN), error=error)

    info = read_info("id-1", record)

    assert (info.error_type, info.error, info.traceback) == ("ValueError", "no \udc80", "Traceback ...")
    assert (record.error, record.final) == ("ValueError: no \udc80", True)


def test_a_move_reads_back() -> None:
    """STARTED is not final, and its moment is the start."""
    record = moved(DELIVERY, state=State.STARTED, task="t", ttl=60, run={"worker": "w", "started": 110.0})

    info = read_info("id-1", record)

    assert (info.state, info.started, info.finished, info.done) == (State.STARTED, 110.0, None, False)
    assert (record.final, record.at) == (False, 110.0)


def test_pending_reads_back() -> None:
    """What was just sent has no run yet."""
    record = pending(id="id-1", task="t", queue="q", ttl=60, at=100.25, generation=1)

    info = read_info("id-1", record)

    assert (info.state, info.task, info.queue, info.sent, info.attempt) == (State.PENDING, "t", "q", 100.25, 0)


def test_records_of_one_message_are_in_order() -> None:
    """Sent, started, retried, done: each outranks the one before, and a replay outranks all."""
    first = attrs.evolve(DELIVERY, envelope=attrs.evolve(DELIVERY.envelope, generation=0))
    error = {"type": "E", "text": ""}
    rows = [
        pending(id="id-1", task="t", queue="q", ttl=60, at=1.0),
        moved(first, state=State.RECEIVED, task="t", ttl=60, run={}),
        moved(first, state=State.STARTED, task="t", ttl=60, run={}),
        failed(first, state=State.RETRY, task="t", ttl=60, run={}, error=error),
        succeeded(first, task="t", value=b"1", content_type="json", ttl=60, worker="w", times=(110.0, 112.0)),
        pending(id="id-1", task="t", queue="q", ttl=60, at=2.0, generation=1),
    ]

    ranks = [row.rank for row in rows]

    assert ranks == sorted(set(ranks))


def test_no_record_is_unknown() -> None:
    """An id that nobody has stored is UNKNOWN."""
    assert read_info("id-1", None) == Info(id="id-1", state=State.UNKNOWN)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{}\n", id="no-state"),
        pytest.param(b'{"state":"DONE"}\n', id="unknown-state"),
        pytest.param(b'{"state":"FAILURE","error":"text"}\n', id="error-no-object"),
        pytest.param(b'{"state":"FAILURE","attempt":-1}\n', id="attempt-negative"),
        pytest.param(b'{"state":"FAILURE","attempt":true}\n', id="attempt-no-number"),
        pytest.param(b'{"state":"FAILURE","generation":1%s}\n' % (b"0" * 400), id="generation-endless"),
        pytest.param(b'{"state":"FAILURE","sent":NaN}\n', id="moment-no-number"),
        pytest.param(b'{"state":"FAILURE","finished":1e300}\n', id="moment-endless"),
        pytest.param(b'{"state":"FAILURE","started":"now"}\n', id="moment-text"),
    ],
)
def test_refuses_foreign_records(body: bytes) -> None:
    """A record that somebody else wrote under our key is an error of ours, not a traceback of json's."""
    with pytest.raises(DecodeError):
        read_info("id-1", Record(key="result:id-1", body=body))


@given(st.dictionaries(st.sampled_from(["state", "error", "attempt", "sent", "ct"]), st.integers() | st.text()))
def test_any_header_is_read_or_refused(header: dict[str, object]) -> None:
    """Whatever a header holds, reading it ends in an info or in the one error."""
    record = Record(key="result:id-1", body=json.dumps(header).encode() + b"\n")

    try:
        info = read_info("id-1", record)
    except DecodeError:
        return

    assert info.id == "id-1"


def test_a_value_of_another_serializer_is_refused() -> None:
    """The reader's accept list decides what is decoded, not the record."""
    info = Info(id="id-1", state=State.SUCCESS, content_type="pickle", payload=b"...")

    with pytest.raises(DecodeError, match="'pickle', which is not accepted"):
        info.value({"json": JsonSerializer()})


def test_crash_marks_belong_to_one_attempt() -> None:
    """Earlier claims of the same attempt are looked at; another attempt or generation has marks of its own."""
    third = DELIVERY
    second = attrs.evolve(third, number=2)
    retried = attrs.evolve(third, envelope=attrs.evolve(third.envelope, attempt=3))

    keys = entered_keys(third)

    assert entered_mark(second).key in keys
    assert entered_mark(third).key not in keys
    assert not set(keys) & set(entered_keys(retried))


def test_looks_at_a_bounded_number_of_crash_marks() -> None:
    """A message that was claimed a thousand times does not cost a thousand keys."""
    assert len(entered_keys(attrs.evolve(DELIVERY, number=1000))) == 50
