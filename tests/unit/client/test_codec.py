"""How a call becomes bytes and comes back, whatever the bytes are."""

import json
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.client.codec import Message, decode, encode
from queuekit.envelope import Envelope, join_frame, split_frame
from queuekit.errors import DecodeError, EncodeError, TooLargeError
from queuekit.retry import Fixed
from queuekit.serializer import JsonSerializer, PickleSerializer
from queuekit.signature import Signature
from queuekit.wire.position import Position
from queuekit.wire.signing import Signing, SigningKey

JSON = {"json": JsonSerializer()}
HEAD = {"v": 1, "id": "id-1", "task": "t", "ct": "json"}


def travel(signature: Signature[Any], **options: Any) -> Message:
    """Return what a worker reads of *signature*."""
    body = encode(signature, id="id-1", serializer=JSON["json"], **options)
    return decode(Envelope(id="id-1", queue="q", body=body), JSON)


def envelope(header: dict[str, Any], payload: bytes = b"{}") -> Envelope:
    """Return an envelope whose body was written by hand."""
    return Envelope(id="id-1", queue="q", body=join_frame(header, payload))


def test_a_plain_call_comes_back() -> None:
    """Task and arguments are what they were, and nothing else is set."""
    message = travel(Signature("t", args=(1, "two"), kwargs={"three": None}))

    assert message == Message(id="id-1", task="t", args=[1, "two"], kwargs={"three": None}, headers={})


def test_all_options_come_back() -> None:
    """What the caller set travels with the message."""
    after: Signature[Any] = Signature("a", args=(datetime(2030, 1, 1, tzinfo=UTC),))
    links: dict[str, Any] = {"on_success": [after], "on_error": [Signature("b")]}
    options: dict[str, Any] = {"headers": {"trace": "ä"}, "retries": 3, "timeout": 2.5, "ignore_result": True}

    message = travel(Signature("t", retry=Fixed(5), **options, **links), parent="id-0")

    told = {key: getattr(message, key) for key in options}
    assert (told, message.retry, message.parent) == (options, Fixed(5), "id-0")
    assert (list(message.on_success), list(message.on_error)) == (links["on_success"], links["on_error"])


def test_the_usual_header_is_like_any_other() -> None:
    """The header that is recognised without a parser says what a parser would read."""
    body = encode(Signature("t"), id="id-1", serializer=JSON["json"])

    assert json.loads(body.split(b"\n", 1)[0]) == HEAD


@given(
    st.builds(
        Position,
        st.from_regex("[A-Za-z0-9_.:-]{1,9}", fullmatch=True),
        st.integers(0, 2**31),
        st.none() | st.integers(0, 2**31),
    ),
    st.none() | st.from_regex("[A-Za-z0-9_.:ä-]{1,9}", fullmatch=True),
)
def test_a_position_is_read_without_a_parser_as_with_one(link: Position, parent: str | None) -> None:
    """The header of a part of a workflow that is recognised as usual says what it would say to a JSON parser."""
    body = encode(Signature("t"), id="id-1", serializer=JSON["json"], link=link, parent=parent)
    head, payload = body.split(b"\n", 1)
    parsed = json.dumps(json.loads(head)).encode() + b"\n" + payload

    assert read_or_refused(body) == read_or_refused(parsed)


def read_or_refused(body: bytes) -> Message | str:
    """Return the message in *body*, or why there is none."""
    try:
        return decode(Envelope(id="id-1", queue="q", body=body), JSON)
    except DecodeError as error:
        return str(error)


def test_text_all_through_with_json() -> None:
    """A person can read a message."""
    body = encode(Signature("t", args=("grün",)), id="id-1", serializer=JSON["json"])

    assert body.decode() == '{"v":1,"id":"id-1","task":"t","ct":"json"}\n{"args":["grün"]}'


@pytest.mark.parametrize(
    ("signature", "text"),
    [
        pytest.param(Signature("t", args=(1, {"a": [object()]})), "t() argument 'second'.a[0]: object", id="position"),
        pytest.param(Signature("t", args=(1, 2, object())), "t() argument '0': object", id="beyond-parameters"),
        pytest.param(Signature("t", kwargs={"by": {1, print}}), "t() argument 'by'[", id="keyword"),
        pytest.param(Signature("t", args=(object(),)), "t() argument 'first': object", id="whole-argument"),
    ],
)
def test_names_task_argument_and_path_of_what_cannot_be_written(signature: Signature[Any], text: str) -> None:
    """The error leads to the value; its fix says what can be sent."""
    with pytest.raises(EncodeError) as caught:
        encode(signature, id="id-1", serializer=JSON["json"], parameters=("first", "second"))

    assert caught.value.what.startswith(text)
    assert "attrs class" in caught.value.fix


def test_names_the_task_if_a_follow_up_cannot_be_written() -> None:
    """If no argument is to blame the error still says which task it is."""
    signature: Signature[Any] = Signature("t", on_success=[Signature("a", args=(object(),))])

    with pytest.raises(EncodeError, match=r"t\(\): .*on_success"):
        encode(signature, id="id-1", serializer=JSON["json"])


HEADERS = [
    pytest.param({}, "no version", id="empty"),
    pytest.param({**HEAD, "v": 2}, "version 2; this", id="later-version"),
    pytest.param({**HEAD, "id": "id-2"}, "no valid id", id="other-id"),
    pytest.param({**HEAD, "task": "../x"}, "no valid id and task", id="bad-task"),
    pytest.param({**HEAD, "task": 5}, "no valid id and task", id="task-number"),
    pytest.param({**HEAD, "ct": "pickle"}, "'pickle' is not accepted", id="content-type"),
    pytest.param({**HEAD, "ct": ["json"]}, "no content type", id="content-type-list"),
    pytest.param({**HEAD, "headers": []}, "headers is not", id="headers-list"),
    pytest.param({**HEAD, "headers": {"a": 1}}, "headers is not", id="header-number"),
    pytest.param({**HEAD, "retries": "3"}, "retries in the header", id="retries-text"),
    pytest.param({**HEAD, "retries": True}, "retries in the header", id="retries-bool"),
    pytest.param({**HEAD, "retries": 10**4000}, "retries in the header", id="retries-endless"),
    pytest.param({**HEAD, "retries": -1}, "retries in the header", id="retries-negative"),
    pytest.param({**HEAD, "flow": ["g", -1]}, "flow in the header", id="flow-negative"),
    pytest.param({**HEAD, "flow": ["g", 1, 10**40]}, "flow in the header", id="flow-endless"),
    pytest.param({**HEAD, "gather": ["g", 1, -1, "fail", False]}, "gather in the header", id="gather-negative"),
    pytest.param({**HEAD, "gather": ["g", 1, 10**40, "fail", False]}, "gather in the header", id="gather-endless"),
    pytest.param({**HEAD, "gather": ["g:\n", 1, 1, "fail", False]}, "gather in the header", id="gather-of-no-name"),
    pytest.param({**HEAD, "retry": {"kind": "fixed", "seconds": 1e300}}, "retry policy", id="retry-endless"),
    pytest.param({**HEAD, "timeout": "1s"}, "timeout in the header", id="timeout"),
    pytest.param({**HEAD, "timeout": 10**400}, "timeout in the header", id="timeout-endless"),
    pytest.param({**HEAD, "timeout": float("nan")}, "timeout in the header", id="timeout-nan"),
    pytest.param({**HEAD, "ignore_result": 1}, "ignore_result in the header", id="ignore"),
    pytest.param({**HEAD, "parent": 1}, "parent in the header", id="parent"),
    pytest.param({**HEAD, "retry": "fixed"}, "retry in the header", id="retry-text"),
    pytest.param({**HEAD, "retry": {"kind": "x"}}, "retry policy", id="retry-kind"),
]


@pytest.mark.parametrize(("header", "text"), HEADERS)
def test_refuses_headers(header: dict[str, Any], text: str) -> None:
    """Whatever is wrong with a header is said in few words."""
    with pytest.raises(DecodeError, match=text):
        decode(envelope(header), JSON)


PAYLOADS = [
    pytest.param(b"", "not JSON", id="empty"),
    pytest.param(b'{"args":[1', "not JSON", id="truncated"),
    pytest.param(b"[]", "not an object", id="list"),
    pytest.param(b'{"args":{}}', "args is not a list", id="args"),
    pytest.param(b'{"args":{"$tuple":[1]}}', "args is not a list", id="args-tagged"),
    pytest.param(b'{"kwargs":[]}', "args is not a list", id="kwargs"),
    pytest.param(b'{"kwargs":{"$dict":[[1,2]]}}', "args is not a list", id="kwargs-with-number"),
    pytest.param(b'{"on_success":{}}', "on_success is not", id="links"),
    pytest.param(b'{"on_error":[1]}', "not a signature", id="link"),
    pytest.param(b'{"on_error":[' + b'{"task":"t"},' * 1000 + b'{"task":"t"}]}', "on_error is not", id="many-links"),
    pytest.param(b'{"args":[{"$":1}]}', "not JSON that queuekit writes", id="bad-tag"),
    pytest.param(b'{"args":[{"$object":["t",1]}]}', "not JSON that queuekit writes", id="bad-object"),
    pytest.param(b"[" * 5000 + b"]" * 5000, "deeper than 100", id="deep"),
]


@pytest.mark.parametrize(("payload", "text"), PAYLOADS)
@pytest.mark.parametrize("header", [HEAD, {**HEAD, "retries": 1}], ids=["usual", "with-options"])
def test_refuses_payloads(header: dict[str, Any], payload: bytes, text: str) -> None:
    """Whatever is wrong with a payload is said in few words, behind a usual header and behind any other."""
    with pytest.raises(DecodeError, match=text):
        decode(envelope(header, payload), JSON)


def test_refuses_a_body_under_another_id() -> None:
    """The id in the usual header must be that of the envelope."""
    body = encode(Signature("t"), id="id-2", serializer=JSON["json"])

    with pytest.raises(DecodeError, match="no valid id"):
        decode(Envelope(id="id-1", queue="q", body=body), JSON)


def test_pickle_is_read_where_it_is_accepted() -> None:
    """The worker's list decides."""
    pickler = PickleSerializer()
    body = encode(Signature("t", args=({1, 2},)), id="id-1", serializer=pickler)

    message = decode(Envelope(id="id-1", queue="q", body=body), {"pickle": pickler})

    assert message.args == [{1, 2}]


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(body: bytes) -> None:
    """Noise is never a message, and raises the one error."""
    with pytest.raises(DecodeError):
        decode(Envelope(id="id-1", queue="q", body=body), JSON)


@given(data=st.data())
def test_damaged_messages_are_read_or_refused(data: st.DataObject) -> None:
    """A message with a few bytes changed, lost or added ends in a message or in the one error."""
    whole = encode(FULL, id="id-1", serializer=JSON["json"])
    place = data.draw(st.integers(0, len(whole)))
    body = whole[:place] + data.draw(st.binary(max_size=3)) + whole[place + data.draw(st.integers(0, 3)) :]

    try:
        message = decode(Envelope(id="id-1", queue="q", body=body), JSON)
    except DecodeError:
        return

    assert attrs.has(type(message))


FULL: Signature[Any] = Signature(
    "t", args=(1, {"a": (2, b"3")}), kwargs={"k": {4}}, retries=2, retry=Fixed(1), on_error=[Signature("e", delay=1)]
)


def test_a_header_that_no_worker_reads_is_not_written() -> None:
    """The send fails, not the run; what is written has room for a signature."""
    signing = Signing([SigningKey(b"k" * 40)], required=True)
    call, short = Signature[Any]("t"), Signature[Any]("t", headers={"a": ""})
    room = 65_436 - len(encode(short, id="a", serializer=JsonSerializer()).partition(b"\n")[0]) - 1

    longest = encode(attrs.evolve(call, headers={"a": "x" * room}), id="a", serializer=JsonSerializer())
    signing.check_message(signing.signed_message(longest))

    with pytest.raises(TooLargeError, match="headers and options of t"):
        encode(attrs.evolve(call, headers={"a": "x" * (room + 1)}), id="a", serializer=JsonSerializer())


@pytest.mark.parametrize("delay", [0.1, 60, 1e-05, 86_400 * 365.0])
def test_writes_a_delay_like_any_header(delay: float) -> None:
    """The header of a call that sets only a delay has the bytes that a JSON encoder writes."""
    body = encode(Signature("jobs.add", (1,), delay=delay), id="id-1", serializer=JsonSerializer())

    header, payload = split_frame(body)
    assert body == join_frame(header, payload)
    assert header["delay"] == delay
