"""Every verb of broker and backend, once: for tests of what is sent to the server and what the server makes of it."""

import attrs

from queuekit.backend import Condition, Join, Record
from queuekit.broker import Ack, CommitItem, Dead, Place, Release, Replace
from queuekit.envelope import Envelope, Lane, Unique
from queuekit.ids import new_id
from queuekit_mongo.backend import MongoBackend
from queuekit_mongo.broker import MongoBroker
from queuekit_testing.kit import unique_name

__all__ = ["LEASE", "use_every_verb"]

LEASE = 60.0


def use_every_verb(broker: MongoBroker, backend: MongoBackend, queue: str, lane: Lane | None = None) -> None:
    """Send, claim, extend, settle, commit, look, mend; records and groups as well. New messages are in *lane*."""
    key = Unique(key=unique_name("key"))
    for _ in range(2):
        broker.send([Envelope(id=new_id(), queue=queue, body=b"", priority=9, unique=key, lane=lane)])
    held = broker.receive([queue, "other"], limit=40, wait=0, lease=LEASE)
    broker.extend([one.lease for one in held], lease=LEASE)
    later = attrs.evolve(held[4].envelope, attempt=1, delay=60.0)
    broker.settle([Ack(held[0]), Release(held[1]), Release(held[2], delay=9.0), Dead(held[3], reason="failed")])
    broker.settle([Replace(held[4], later), Ack(held[0]), *map(Ack, held[5:20])])
    records = [Record(key=f"result:{one.id}", body=b"x", rank=2, ttl=60.0, final=True) for one in held[20:]]
    pairs = zip(held[20:], records, strict=True)
    broker.commit([CommitItem(settlement=Ack(one), records=(record,)) for one, record in pairs])
    arrivals = [
        Join(group=unique_name("g"), member=0, size=1, then=(Envelope(id=new_id(), queue=queue, body=b"", lane=lane),))
    ]
    broker.commit([CommitItem(joins=tuple(arrivals)), CommitItem(records=(Record(key=unique_name("r"), body=b""),))])
    broker.receive([queue], limit=0, wait=0, lease=LEASE)
    broker.counts([queue, "other"])
    for place in Place:
        page = broker.peek(queue, place=place, limit=5)
        broker.peek(queue, place=place, limit=5, cursor=page.cursor)
    broker.find(queue, [one.id for one in held])
    broker.requeue(queue, [held[3].id])
    broker.requeue(queue)
    broker.remove(queue, [held[1].id])
    broker.purge(queue, place=Place.DELAYED)
    use_backend(backend, records)


def use_backend(backend: MongoBackend, records: list[Record]) -> None:
    """Put, get, wait, scan, delete, join."""
    for condition in Condition:
        backend.put(records, condition=condition)
        backend.put(records[:1], condition=condition)
    keys = [record.key for record in records]
    backend.get(keys)
    backend.wait(keys, timeout=0)
    backend.scan("result:", limit=5)
    for member in (0, 0, 5_000):
        backend.join("group", member, 6_000)
    backend.delete(keys)
