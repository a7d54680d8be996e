"""Messages and records as rows of ``sqlite:///``: many with one statement, and none of them changed by it."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from queuekit.backend import Condition, Join, Record
from queuekit.broker import Ack, CommitItem, Dead, Delivery, Place, Release, Replace
from queuekit.engines.sqlite import SqliteBackend, SqliteBroker, inspection
from queuekit.engines.sqlite.records import prefix_end
from queuekit.engines.sqlite.rows import LARGE_BODY, batches
from queuekit.engines.sqlite.tokens import rounds
from queuekit.envelope import Envelope, Lane, Unique
from queuekit.errors import TooLargeError
from queuekit.urls import EngineURL


@pytest.fixture
def url(tmp_path: Path) -> EngineURL:
    """Return the URL of a fresh file."""
    return EngineURL.parse(f"sqlite:///{tmp_path}/jobs.db")


@pytest.fixture
def broker(url: EngineURL) -> Iterator[SqliteBroker]:
    """Return a broker."""
    broker = SqliteBroker(url)
    yield broker
    broker.close()


@pytest.fixture
def backend(url: EngineURL) -> Iterator[SqliteBackend]:
    """Return a backend of the same file."""
    backend = SqliteBackend(url)
    yield backend
    backend.close()


def message(id: str = "a", **fields: Any) -> Envelope:
    """Return a message."""
    return Envelope(**{"id": id, "queue": "q", "body": b"body", **fields})


def take(broker: SqliteBroker, queue: str = "q") -> list[Delivery]:
    """Take all that is there."""
    return broker.receive([queue], limit=1_000, wait=0, lease=30)


# -- in and out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 31, 32, 127, 128, 129, 999])
def test_batches_of_any_size_come_back_in_order(broker: SqliteBroker, count: int) -> None:
    """Cutting a batch into statements neither loses nor reorders anything."""
    sent = [message(f"m{number}", body=b"%d" % number * (number % 5)) for number in range(count)]

    broker.send(sent)

    assert [delivery.envelope for delivery in take(broker)] == sent


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (3, [4]), (33, [32, 1]), (90, [64, 32]), (100, [128]), (500, [128] * 4)]
)
def test_needs_few_statements_of_few_sizes(count: int, sizes: list[int]) -> None:
    """A batch is cut into as few statements as can be, filled up to powers of two with rows of NULL."""
    rows = [(number, "x") for number in range(count)]

    cut = list(batches(rows))

    assert [size for size, _ in cut] == sizes
    assert [len(parameters) for _, parameters in cut] == [2 * size for size in sizes]
    numbers = [value for _, parameters in cut for value in parameters if isinstance(value, int)]
    assert numbers == list(range(count))


def test_random_messages_come_back_exactly(broker: SqliteBroker) -> None:
    """Every field of an envelope is what was sent, numbers to the last digit, bodies of any bytes and size."""
    random = Random(7)
    sent = {
        id: message(
            id,
            body=random.randbytes(random.choice([0, 1, 300, LARGE_BODY, LARGE_BODY + 1])),
            priority=random.randrange(10),
            not_before=random.choice([None, random.uniform(1.6e9, 1.7e9)]),
            expires=random.choice([None, random.uniform(1.8e9, 1.9e9), math.nextafter(1.8e9, 2e9)]),
            attempt=random.choice([0, 0, 3]),
            generation=random.choice([0, 0, 2]),
            hop=random.choice([0, 0, 5]),
            unique=random.choice([None, Unique(key=f"key {id}", until="done", ttl=random.random() * 1e6)]),
        )
        for id in map(str, range(60))
    }

    broker.send(list(sent.values()))

    assert {delivery.id: delivery.envelope for delivery in take(broker)} == sent


def test_large_bodies_keep_their_neighbours_apart(broker: SqliteBroker) -> None:
    """Bodies that are fetched by themselves and those that are fetched together do not get mixed up."""
    bodies = [b"small", b"L" * (LARGE_BODY + 1), b"", b"also small", b"M" * (LARGE_BODY * 2)]
    broker.send([message(str(number), body=body) for number, body in enumerate(bodies)])

    assert [delivery.envelope.body for delivery in take(broker)] == bodies


def test_refuses_a_body_above_the_limit_before_anything_is_sent(broker: SqliteBroker) -> None:
    """One body that is too large keeps the whole call from happening."""
    huge = message("huge", body=bytes(broker.limits.max_body + 1))

    with pytest.raises(TooLargeError, match="huge"):
        broker.send([message("small"), huge])

    assert take(broker) == []


def test_refuses_a_record_above_the_limit(backend: SqliteBackend, broker: SqliteBroker) -> None:
    """A record that is too large is refused by ``put`` and by ``commit``."""
    huge = Record(key="huge", body=bytes(backend.limits.max_record + 1))

    with pytest.raises(TooLargeError, match="huge"):
        backend.put([huge])
    with pytest.raises(TooLargeError, match="huge"):
        broker.commit([CommitItem(records=(huge,))])


def test_text_that_is_no_unicode_is_kept_readable(broker: SqliteBroker, backend: SqliteBackend) -> None:
    """An error text with a lone surrogate, as from a broken file name, is stored with a question mark."""
    broker.send([message()])

    broker.settle([Dead(delivery, reason="failed", error="no file \udc80 é") for delivery in take(broker)])
    backend.put([Record(key="k", error="no file \udc80")])

    (dead,) = broker.peek("q", place=Place.DEAD).items
    assert dead.error == "no file ? é"
    assert backend.get(["k"])["k"].error == "no file ?"


# -- once ------------------------------------------------------------------------------------------------------------


def test_a_later_step_takes_the_place_of_an_earlier_one(broker: SqliteBroker) -> None:
    """There is one message by id: the next attempt replaces the one before, whose lease is lost."""
    broker.send([message()])
    (old,) = take(broker)

    broker.send([message(attempt=1)])

    assert broker.settle([Ack(old)]) == [old]
    (new,) = take(broker)
    assert (new.envelope.attempt, new.number, new.crashes) == (1, 1, 0)


def test_an_earlier_step_adds_nothing(broker: SqliteBroker) -> None:
    """A send that was overtaken by its retry is not put back."""
    broker.send([message(attempt=2)])

    ids = broker.send([message(attempt=1), message(generation=0, hop=9)])

    assert ids == ["a", "a"]
    assert [delivery.envelope.attempt for delivery in take(broker)] == [2]


def test_repeats_within_one_call_add_nothing(broker: SqliteBroker) -> None:
    """The same message twice in one batch is one message."""
    broker.send([message("a"), message("b"), message("a")])

    assert [delivery.id for delivery in take(broker)] == ["a", "b"]


# -- fences ----------------------------------------------------------------------------------------------------------


def test_parts_tokens_so_that_no_row_occurs_twice() -> None:
    """A statement sees each row once; what is no token of ours is left out."""
    assert rounds(["x:1", "y:2", "z:1", "", "x:", "x:\u0661", "x:-1", "x:1"]) == [
        {"1": ("x", 0), "2": ("y", 1)},
        {"1": ("z", 2)},
        {"1": ("x", 7)},
    ]


@pytest.mark.parametrize("token", ["", "nonsense", "0-0:1", 'x":1', "x:99999999999999999999999"])
def test_a_foreign_token_is_lost(broker: SqliteBroker, token: str) -> None:
    """Whatever text is shown in place of a token, nothing is changed and nothing fails."""
    broker.send([message()])
    (held,) = take(broker)
    foreign = Delivery(envelope=held.envelope, token=token, number=1)

    assert broker.settle([Ack(foreign)]) == [foreign]
    assert broker.settle([Release(foreign)]) == [foreign]
    assert broker.extend([foreign.lease], lease=60) == [foreign.lease]
    assert broker.settle([Ack(held)]) == []


def test_a_stale_ack_among_good_ones_is_told_apart(broker: SqliteBroker) -> None:
    """Of a batch of acks those whose lease is lost are returned, also when the same row is held again."""
    broker.send([message(id) for id in "abc"])
    first = take(broker)
    broker.settle([Release(first[1])])
    (again,) = take(broker)

    lost = broker.settle([Ack(first[0]), Ack(first[1]), Ack(again), Ack(first[2]), Ack(first[0])])

    assert lost == [first[1], first[0]]
    assert broker.counts(["q"])["q"].leased == 0


def test_many_kinds_of_settlement_in_one_call(broker: SqliteBroker) -> None:
    """Settlements of all kinds are carried out together, each by its own lease."""
    broker.send([message(id) for id in "abcdef"])
    a, b, c, d, e, f = take(broker)
    broker.settle([Ack(f)])

    lost = broker.settle(
        [
            Ack(a),
            Release(b),
            Release(c, delay=60, counted=True),
            Replace(d, message("d", attempt=1, delay=60)),
            Dead(e, reason="failed", holder="w1", error="E"),
            Ack(f),
        ]
    )

    assert lost == [f]
    counts = broker.counts(["q"])["q"]
    assert (counts.ready, counts.delayed, counts.leased, counts.dead) == (1, 2, 0, 1)
    assert [stored.crashes for stored in broker.find("q", ["b", "c", "d"])] == [0, 1, 0]


def test_a_retry_on_another_queue_moves_the_message(broker: SqliteBroker) -> None:
    """The message is on the new queue with its unique key; the old queue remembers the id."""
    unique = Unique(key="u")
    broker.send([message(unique=unique)])
    (delivery,) = take(broker)

    broker.settle([Replace(delivery, message(queue="other", attempt=1, unique=unique))])

    assert broker.queues() == ["other", "q"]
    assert broker.send([message(unique=unique), message("b", unique=unique)]) == ["a", "a"]
    assert take(broker) == []
    (moved,) = take(broker, "other")
    broker.settle([Ack(moved)])
    assert broker.send([message("b", unique=unique)]) == ["b"]


def test_a_retry_may_return_to_a_queue_that_remembers_it(broker: SqliteBroker) -> None:
    """A message that goes to another queue and back is on its queue again, once."""
    broker.send([message()])
    for attempt, (here, there) in enumerate([("q", "other"), ("other", "q")], start=1):
        (delivery,) = take(broker, here)
        broker.settle([Replace(delivery, message(queue=there, attempt=attempt))])

    assert [delivery.envelope.attempt for delivery in take(broker)] == [2]


# -- unique keys -----------------------------------------------------------------------------------------------------


def test_the_order_of_a_mixed_batch_is_kept(broker: SqliteBroker) -> None:
    """Messages with and without unique keys in one call stay in their order, and see each other's keys."""
    unique = Unique(key="u")

    ids = broker.send([message("a"), message("b", unique=unique), message("c"), message("d", unique=unique)])

    assert ids == ["a", "b", "c", "b"]
    assert [delivery.id for delivery in take(broker)] == ["a", "b", "c"]


def test_a_key_held_until_the_start_is_freed_by_the_claim(broker: SqliteBroker) -> None:
    """Once the message has been taken, another may have the key, and the ack of the first leaves it alone."""
    unique = Unique(key="u", until="start")
    broker.send([message("a", unique=unique)])
    (a,) = take(broker)

    assert broker.send([message("b", unique=unique)]) == ["b"]
    broker.settle([Ack(a)])
    assert broker.send([message("c", unique=unique)]) == ["b"]


def test_a_replayed_message_takes_its_key_only_if_it_is_free(broker: SqliteBroker) -> None:
    """The key of a dead message may have passed to another, which keeps it."""
    unique = Unique(key="u")
    broker.send([message("a", unique=unique)])
    broker.settle([Dead(delivery, reason="failed") for delivery in take(broker)])
    broker.send([message("b", unique=unique)])

    replayed = broker.requeue("q")

    assert replayed == ["a"]
    assert broker.send([message("c", unique=unique)]) == ["b"]


@pytest.mark.parametrize("how", ["remove", "purge"])
def test_taking_a_message_out_frees_its_key(broker: SqliteBroker, how: str) -> None:
    """Whoever leaves the queue by hand leaves the key behind as well."""
    unique = Unique(key="u")
    broker.send([message("a", unique=unique)])

    gone = broker.remove("q", ["a", "unknown"]) if how == "remove" else broker.purge("q")

    assert gone in (["a"], 1)
    assert broker.send([message("b", unique=unique)]) == ["b"]


# -- by hand, in batches ---------------------------------------------------------------------------------------------


def test_replays_and_purges_more_than_one_batch(broker: SqliteBroker) -> None:
    """Mending by hand goes in batches and still reaches everything, in order."""
    ids = [f"{number:04}" for number in range(inspection.BATCH + 200)]
    broker.send([message(id) for id in ids])
    broker.settle([Dead(delivery, reason="failed") for delivery in take(broker)])

    replayed = broker.requeue("q")
    purged = broker.purge("q")

    assert (replayed, purged) == (ids, len(ids))
    assert broker.counts(["q"])["q"].ready == 0


def test_pages_follow_each_other_in_each_place(broker: SqliteBroker) -> None:
    """Listings of all places end, show each message once, and begin with the next one to go."""
    broker.send([message(f"r{number}", priority=number % 3) for number in range(5)])
    broker.send([message(f"d{number}", delay=60 + number) for number in range(5)])

    pages = {place: [stored.envelope.id for stored in broker.walk("q", place)] for place in Place}
    small = broker.peek("q", place=Place.READY, limit=2)

    assert pages[Place.READY] == ["r2", "r1", "r4", "r0", "r3"]
    assert pages[Place.DELAYED] == ["d0", "d1", "d2", "d3", "d4"]
    second = broker.peek("q", place=Place.READY, limit=2, cursor=small.cursor)
    assert [stored.envelope.id for stored in (*small.items, *second.items)] == ["r2", "r1", "r4", "r0"]


# -- records ---------------------------------------------------------------------------------------------------------


def test_later_records_of_a_call_see_the_earlier(backend: SqliteBackend) -> None:
    """Of several records with one key in one call each is judged against the one before."""
    records = [Record(key="k", rank=rank, body=b"%d" % rank) for rank in (1, 3, 2, 4)]

    written = backend.put(records, condition=Condition.NEWER)

    assert written == [True, True, False, True]
    assert backend.get(["k"])["k"].body == b"4"


def test_expect_applies_to_each_record(backend: SqliteBackend) -> None:
    """With an expected version of 0 only those that are absent are written."""
    backend.put([Record(key="there")])

    assert backend.put([Record(key="there"), Record(key="new"), Record(key="new")], expect=0) == [False, True, False]


def test_putting_nothing_is_fine(backend: SqliteBackend, broker: SqliteBroker) -> None:
    """Empty batches do nothing."""
    assert (backend.put([]), backend.get([]), broker.send([]), broker.settle([]), broker.commit([])) == (
        [],
        {},
        [],
        [],
        [],
    )
    assert broker.extend([], lease=30) == []


@pytest.mark.parametrize(
    ("prefix", "end"),
    [("a", "b"), ("a\U0010ffff", "b"), ("a\ud7ff", "a\ue000"), ("", None), ("\U0010ffff", None)],
    ids=["plain", "last character", "before the surrogates", "empty", "nothing behind"],
)
def test_finds_the_end_of_a_prefix(prefix: str, end: str | None) -> None:
    """The range of keys with a prefix ends at the next text that has it no more."""
    assert prefix_end(prefix) == end


def test_scans_all_keys_and_only_those_of_the_prefix(backend: SqliteBackend) -> None:
    """A scan is a range of keys, page by page, also with an empty prefix."""
    keys = ["a:1", "a:2", "a:\U0010ffff", "b:1", "a"]
    backend.put([Record(key=key) for key in keys])

    page = backend.scan("a:", limit=2)
    rest = backend.scan("a:", limit=2, cursor=page.cursor)

    assert [record.key for record in (*page.items, *rest.items)] == ["a:1", "a:2", "a:\U0010ffff"]
    assert rest.cursor is None
    assert len(backend.scan("").items) == 5


# -- commits ---------------------------------------------------------------------------------------------------------


def test_a_group_completed_by_one_batch_sends_once(broker: SqliteBroker, backend: SqliteBackend) -> None:
    """All members of a group in one commit: its follow-up is on the queue once."""
    broker.send([message(str(number)) for number in range(10)])
    then = (message("callback", queue="callbacks"),)
    items = [
        CommitItem(settlement=Ack(delivery), joins=(Join(group="g", member=int(delivery.id), size=10, then=then),))
        for delivery in take(broker)
    ]

    assert broker.commit(items) == [True] * 10

    assert [delivery.id for delivery in take(broker, "callbacks")] == ["callback"]
    assert backend.join("g", 3, 10) == (False, 10)


def test_a_stale_item_does_not_join(broker: SqliteBroker, backend: SqliteBackend) -> None:
    """An item whose lease is lost leaves records, groups and queues as they are, and the others happen."""
    broker.send([message("a"), message("b")])
    a, b = take(broker)
    broker.settle([Ack(a)])

    done = broker.commit(
        [
            CommitItem(
                settlement=Ack(delivery),
                records=(Record(key=f"result:{delivery.id}", final=True),),
                joins=(Join(group="g", member=member, size=2),),
                sends=(message(f"after {delivery.id}", queue="after"),),
            )
            for member, delivery in enumerate([a, b])
        ]
    )

    assert done == [False, True]
    assert list(backend.get(["result:a", "result:b"])) == ["result:b"]
    assert [delivery.id for delivery in take(broker, "after")] == ["after b"]
    assert backend.join("g", 1, 2) == (False, 1)


def test_a_commit_of_many_kinds(broker: SqliteBroker, backend: SqliteBackend) -> None:
    """Settlements other than acks, and items without one, are committed together."""
    broker.send([message("a"), message("b", unique=Unique(key="u"))])
    a, b = take(broker)

    done = broker.commit(
        [
            CommitItem(settlement=Replace(a, message("a", attempt=1, queue="again"))),
            CommitItem(records=(Record(key="alone"),)),
            CommitItem(settlement=Ack(b), sends=(message("c", unique=Unique(key="u")),)),
        ]
    )

    assert done == [True, True, True]
    assert [delivery.id for delivery in take(broker, "again")] == ["a"]
    assert [delivery.id for delivery in take(broker)] == ["c"]
    assert list(backend.get(["alone"])) == ["alone"]


def test_those_that_die_together_are_shown_in_their_order(broker: SqliteBroker) -> None:
    """The last one first, whatever order they were sent in."""
    broker.send([message(f"m{number}", priority=number) for number in range(8)])
    dead = take(broker)

    broker.settle([Dead(each, reason="failed") for each in dead])

    shown = [letter.envelope.id for letter in broker.peek("q", place=Place.DEAD).items]
    assert shown == [each.id for each in reversed(dead)] == [f"m{number}" for number in range(8)]


def steps(broker: SqliteBroker, place: Place, cursor: str | None) -> int:
    """Return the steps of SQLite's virtual machine for one page, in tens."""
    counted: list[int] = []
    database = broker._database
    connection = database.ready(database.handle())
    connection.set_progress_handler(lambda: counted.append(1), 10)
    try:
        broker.peek("q", place=place, limit=10, cursor=cursor)
    finally:
        connection.set_progress_handler(None, 0)
    return len(counted)


@pytest.mark.parametrize("place", list(Place))
def test_a_page_costs_the_same_wherever_it_begins(broker: SqliteBroker, place: Place) -> None:
    """It does not read what earlier pages have shown, even if all of it has the same priority and time."""
    later = {"not_before": 4e9} if place is Place.DELAYED else {}
    broker.send([message(f"{number:04}", **later) for number in range(1_000)])
    taken = [] if place in {Place.READY, Place.DELAYED} else take(broker)
    if place is Place.DEAD:
        broker.settle([Dead(delivery, reason="failed") for delivery in taken])

    behind = broker.peek("q", place=place, limit=10).cursor
    far = broker.peek("q", place=place, limit=900).cursor

    assert 0 < steps(broker, place, far) < 2 * steps(broker, place, behind)


def test_counting_reads_each_index_by_ranges(broker: SqliteBroker, url: EngineURL) -> None:
    """That of waiting messages for their number, and twice for the oldest: without a lane, and in one."""
    broker.send([message("a", queue="mail"), message("b", queue="mail"), message("c", delay=60.0)])
    with closing(sqlite3.connect(url.path)) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {inspection.COUNTS}", ("[]",) * 4)]

    found = broker.counts(["mail", "q", "none"])

    ranges = [line.partition("messages_in_turn ")[2] for line in plan if "messages_in_turn" in line]
    reads = [line.partition("messages_")[2].split()[0] for line in plan if "messages_" in line]
    assert reads == ["in_turn", "in_turn", "in_turn", "delayed", "leased", "dead"]
    assert ranges == ["(queue=?)", "(queue=? AND priority=? AND tag=?)", "(queue=? AND priority=? AND tag>?)"]
    assert [(one.ready, one.delayed) for one in found.values()] == [(2, 0), (0, 1), (0, 0)]
    assert (found["mail"].oldest_age is not None, found["q"].oldest_age) == (True, None)
    assert [broker.counts([name])[name].delayed for name in found] == [0, 1, 0]
    assert broker.counts([]) == {}


def test_the_oldest_is_found_in_each_level_and_lane(broker: SqliteBroker, url: EngineURL) -> None:
    """Those in lanes are not in the order of time."""
    ids = {
        "plain": message("plain"),
        "urgent": message("urgent", priority=9),
        "first": message("first", lane=Lane(key="a")),
        "behind": message("behind", lane=Lane(key="a")),
    }
    broker.send(list(ids.values()))
    for id in ids:
        with closing(sqlite3.connect(url.path)) as connection, connection:
            connection.execute("UPDATE messages SET due = sent_at")
            connection.execute("UPDATE messages SET due = sent_at - 1000 WHERE id = ?", (id,))

        assert broker.counts(["q"])["q"].oldest_age == pytest.approx(1000, abs=60)
