"""The parts of the plugin that need no server: URLs, names, messages, time, threads."""

import sys
import threading
import time
from email.utils import formatdate
from itertools import product

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.clock import SystemClock
from queuekit.envelope import Envelope, Unique
from queuekit.errors import ConfigError
from queuekit.urls import EngineURL
from queuekit_sqs.claiming import visibility
from queuekit_sqs.failures import unavailable
from queuekit_sqs.fifo_attempts import Turn, read_turn
from queuekit_sqs.messages import Counts, earliness, read, write
from queuekit_sqs.options import DynamoOptions, SqsOptions
from queuekit_sqs.queues import QueueNames
from queuekit_sqs.request_pool import RequestPool
from queuekit_sqs.servertime import ServerTime
from queuekit_sqs.settling import Token, read_token
from queuekit_sqs.urls import read_target
from support.aws_clients import sqs_broker


@pytest.mark.parametrize(
    ("url", "region", "endpoint", "prefix"),
    [
        pytest.param("sqs://eu-west-1/shop", "eu-west-1", None, "shop", id="region"),
        pytest.param("sqs://us-gov-east-1", "us-gov-east-1", None, "", id="no-prefix"),
        pytest.param("sqs+http://localhost:4566/shop", None, "http://localhost:4566", "shop", id="emulator"),
        pytest.param("sqs+https://vpce-1.sqs.amazonaws.com/a", None, "https://vpce-1.sqs.amazonaws.com", "a", id="vpc"),
    ],
)
def test_reads_a_url(url: str, region: str | None, endpoint: str | None, prefix: str) -> None:
    """A URL says region or endpoint, and how names begin."""
    target = read_target(EngineURL.parse(url), SqsOptions())

    assert (target.region, target.endpoint, target.prefix) == (region, endpoint, prefix)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        pytest.param("sqs://", "names no region or host", id="nothing"),
        pytest.param("sqs://localhost:4566/x", "instead of a region", id="host-as-region"),
        pytest.param("sqs://eu-west-1/a b", "is not a valid prefix", id="prefix"),
        pytest.param("dynamodb+http://a,b/x", "names several hosts", id="hosts"),
    ],
)
def test_refuses_a_url(url: str, problem: str) -> None:
    """A URL that leads nowhere is refused with an example of one that does."""
    with pytest.raises(ConfigError, match=problem) as caught:
        read_target(EngineURL.parse(url), DynamoOptions())

    assert "Write e.g." in caught.value.fix


def test_names_are_legal_and_differ() -> None:
    """Whatever our queues are called, SQS takes their names, and no two places share one."""
    names = QueueNames("shop")
    queues = ["mail", "mail.x", "mail:x", "mail-x", "mail-dead", "mail.dead", "mail-p9", "m" * 120, "m" * 119 + "."]
    queues += [f"{queue}.fifo" for queue in queues if len(queue) < 110]

    found = [
        names.of_priority(queue, level).name
        for queue, level in product(queues, (4, 9))
        if level == 4 or ".fifo" not in queue
    ]
    found += [names.dead(queue).name for queue in queues if queue not in {"mail.dead", "mail.dead.fifo"}]

    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert all(set(name.removesuffix(".fifo")) <= allowed and len(name) <= 80 for name in found)
    assert len(found) - len(set(found)) == 1 + 1, "only the dead letters of mail are what mail.dead names"


def test_a_dead_queue_is_spelled_as_sqs_does() -> None:
    """``mail.dead`` is the queue in which the dead letters of ``mail`` are, also of a FIFO queue."""
    names = QueueNames("")

    assert names.of_priority("mail.dead").name == names.dead("mail").name == "mail-dead"
    assert names.dead("mail.fifo").name == "mail-dead.fifo"
    assert names.of_priority("mail.fifo", 9).name == "mail.fifo"
    assert (names.level_of("mail-p9", "mail"), names.level_of("mail-pp9", "mail")) == (9, None)


@given(
    body=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
    priority=st.integers(0, 9),
    expires=st.none() | st.floats(0, 4e9),
    key=st.none() | st.text(max_size=50),
)
def test_messages_come_back_as_they_were(body: bytes, priority: int, expires: float | None, key: str | None) -> None:
    """Whatever a message holds, SQS takes it, and it is read as it was written."""
    unique = None if key is None else Unique(key=key.encode("utf-8", "replace").decode())
    envelope = Envelope(id="a", queue="q", body=body, priority=priority, expires=expires, unique=unique, attempt=2)

    entry = write(envelope, counts=Counts(number=3, crashes=1, sent_at=1.5))
    got = read({"Body": entry.body, "MessageAttributes": entry.attributes}, "q")

    assert got.envelope == envelope
    assert got.counts == Counts(number=3, crashes=1, sent_at=1.5)
    assert entry.body
    assert all(value["StringValue"] for value in entry.attributes.values())
    assert not {*entry.body} & {*map(chr, [*range(9), 11, 12, *range(14, 32)])}


def test_a_usual_text_stays_as_it_is() -> None:
    """What is text can be read in the console, and carries one attribute."""
    entry = write(Envelope(id="a", queue="q", body=b'{"v":1}\n{}'))

    assert entry.body == '{"v":1}\n{}'
    assert list(entry.attributes) == ["queuekit-id"]


@pytest.mark.parametrize(("ahead", "seen"), [(0.0, 0.0), (0.4, 0.0), (-86_400.0, 86_400.0), (86_400.0, -86_400.0)])
def test_a_wrong_clock_is_found_out(ahead: float, seen: float) -> None:
    """A clock that is right within a second is believed; one that is a day ahead is corrected (QK11)."""

    class Wrong(SystemClock):
        def time(self) -> float:
            return super().time() + ahead

    told = ServerTime(Wrong())
    told.observe(formatdate(time.time(), usegmt=True), sent=time.monotonic() - 0.01)

    assert told.now() - (time.time() + ahead) == pytest.approx(seen, abs=1.1)


def test_a_token_is_all_that_another_process_needs() -> None:
    """A token says when the lease began, how long it is, where, and under which receipt."""
    token = Token(12.5, 30.0, "shop-mail-p9", "a receipt/with spaces==")

    assert read_token(str(token)) == token
    assert read_token("nonsense") is None


@pytest.mark.parametrize("moment", [None, 1_800_000_000.123456])
def test_a_token_tells_how_a_message_of_a_fifo_queue_stands(moment: float | None) -> None:
    """What SQS does not keep of it goes with the lease to whoever hands it back."""
    turn = Turn(message="0a-1b", claims=3, crashes=1, attempt=2, hop=4, not_before=moment)
    token = Token(12.5, 30.0, "shop-mail.fifo", "a receipt/with spaces==", turn)

    assert read_token(str(token)) == token


@pytest.mark.parametrize(
    "text",
    ["", "m", "m!1!0!0!0", "m!x!0!0!0!", "m!1!0!-1!0!", "m!1!0!0!0!nan", "m!1!0!0!0!inf", "m!1!0!0!0!!", "\0" * 9],
)
def test_a_note_that_is_none_tells_nothing(text: str) -> None:
    """A record of the backend may hold anything."""
    assert read_turn(text) is None


@pytest.mark.parametrize(("seconds", "whole"), [(0, 0), (0.2, 1), (1.0, 1), (29.01, 30), (1e9, 43_200)])
def test_seconds_are_whole_ones(seconds: float, whole: int) -> None:
    """SQS counts whole seconds: none is cut off, and none is above twelve hours."""
    assert visibility(seconds) == whole


def test_a_pool_works_at_the_same_time_and_in_order() -> None:
    """Calls run side by side; their results come in order, and an error comes after all have ended."""
    pool = RequestPool(4, name="test")
    barrier = threading.Barrier(4, timeout=10)

    def meet(number: int) -> int:
        barrier.wait()
        return number

    assert pool.map([lambda n=n: meet(n) for n in range(4)]) == [0, 1, 2, 3]  # type: ignore[misc]
    with pytest.raises(ZeroDivisionError):
        pool.map([lambda: 1 // 0, lambda: 2])
    pool.close()
    assert pool.map([lambda: 1, lambda: 2]) == [1, 2]


def test_an_error_shows_no_credentials() -> None:
    """What a service says of a wrong signature holds the session token, and is not shown."""
    url = EngineURL.parse("sqs+https://AKIA:topsecret@host/x")

    @attrs.define
    class ClientError(Exception):
        response: dict[str, object]

    text = "The Canonical String should have been 'x-amz-security-token:TOKEN'"
    wrong = ClientError({"Error": {"Code": "SignatureDoesNotMatch", "Message": text}})
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "topsecret may not"}})

    shown = [str(unavailable(error, doing="sqs:SendMessage on q", url=url)) for error in (wrong, denied)]

    assert not any(secret in line for secret in ("TOKEN", "topsecret") for line in shown)
    assert "Allow this action" in shown[1]


@pytest.mark.parametrize("field", ["b", "d", "s", "w", "x"])
@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e999", "-1e999", "NaN", '"soon"', "[1]"])
def test_a_number_out_of_bounds_harms_no_other_message(field: str, number: str) -> None:
    """Numbers from a queue may be anything: they are read, or left out, and nothing is kept for long."""
    meta = {"StringValue": f'{{"{field}":{number}}}'}
    message = {"MessageId": "m", "Body": "{}", "MessageAttributes": {"queuekit-meta": meta}, "Attributes": {}}

    assert 0.0 <= earliness(message, 1_000.0) <= 2.0
    assert read(message, "q").envelope.body == b"{}"
    meta["StringValue"] = f'{{"u":["key","done",{number}]}}'
    assert read(message, "q").envelope.body == b"{}"


@pytest.mark.parametrize("number", ["-1", "10000000", "18446744073709551616", "1" + "0" * 100, "1.5", "true", '"1"'])
@pytest.mark.parametrize("field", ["a", "g", "h", "p", "n", "c"])
def test_a_count_out_of_bounds_is_left_out_or_cut(field: str, number: str) -> None:
    """No count becomes part of a record's rank, or of a queue's name, that a service has no room for."""
    meta = {"StringValue": f'{{"n":1,"{field}":{number}}}'}
    message = {"MessageId": "m", "Body": "{}", "MessageAttributes": {"queuekit-meta": meta}, "Attributes": {}}

    received = read(message, "q")
    envelope, counts = received.envelope, received.counts

    assert (envelope.attempt, envelope.generation, envelope.hop, envelope.priority) == (0, 0, 0, 4)
    assert all(0 <= count <= 1_000_000 for count in (counts.number, counts.crashes))


def test_a_client_needs_no_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its import would take a seventh of a second of each command, for nothing that botocore lacks."""
    for name in ["boto3", *(name for name in sys.modules if name.startswith("boto3."))]:
        monkeypatch.setitem(sys.modules, name, None)
    broker = sqs_broker(EngineURL.parse("sqs+http://localhost:9/none"))

    client = broker._service._client()

    assert client.meta.service_model.service_name == "sqs"
    broker.close()
