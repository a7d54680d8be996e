"""The names of all keys. The keys of a queue share a hash tag, so that they are in one slot of a Cluster.

=====================================  ================================================================================
``<prefix>:{<queue>}:messages``        hash: id to message, or to the tombstone of one that has left
``<prefix>:{<queue>}:claims``          hash: id to number, crashes, place and token
``<prefix>:{<queue>}:ready``           sorted set of ids, by priority and due time
``<prefix>:{<queue>}:delayed``         sorted set of priority and id, by due time
``<prefix>:{<queue>}:leased``          sorted set of ids, by the end of the lease
``<prefix>:{<queue>}:dead``            sorted set of ids, by time of death
``<prefix>:{<queue>}:death_records``   hash: id to reason, holder and error
``<prefix>:{<queue>}:gone``            list: ids to forget, and when
``<prefix>:{<queue>}:lanes``           sorted set of priority and lane, by the tag of the lane's last message
``<prefix>:{<queue>}:turns``           hash: priority to the time of all lanes
``<prefix>:{<queue>}:clock``           the latest position in the queue
``<prefix>:{<queue>}:notifier``        list of at most one entry: notifies a waiting worker
``<prefix>:{<queue>}:wake:<n>``        list of one entry, short-lived: wakes a single worker that must stop
``<prefix>:{<queue>}:discarded``       number of dead letters that were discarded by rule
``<prefix>:layout``                    version of this layout
``<prefix>:queues``                    set of the names of queues
``<prefix>:unique:<key>``              holder of a unique key (on a Cluster ``<prefix>:{<queue>}:unique:<key>``)
``<prefix>:record:<key>``              a record of the backend
``<prefix>:listed:<kind>:``            sorted set of the keys of records of that kind, by the end of their life
``<prefix>:group:<name>``              set of the members that have joined
``<prefix>:final:<db>:<key>``          channel on which a final record is published
``<prefix>:final:<db>:``               channel to which every listener to any of these subscribes
=====================================  ================================================================================
"""

from __future__ import annotations

import attrs

__all__ = ["LAYOUT", "RESULT", "Keys"]

LAYOUT = 2
"""Version of the keys and their contents. A release with another version refuses to use them."""

RESULT = "result:"
"""Start of the keys of records of which each message has one."""


@attrs.frozen
class Keys:
    """The names under one prefix.

    Attributes:
        prefix: Start of each key.
        db: Number of the database.
        cluster: Whether the keys are on a Redis Cluster.
    """

    prefix: str
    db: int
    cluster: bool

    def queue(self, name: str) -> str:
        """Return the prefix of the keys of a queue; the scripts add the rest."""
        return f"{self.prefix}:{{{name}}}"

    @property
    def layout(self) -> str:
        """The key of the layout's version."""
        return f"{self.prefix}:layout"

    @property
    def queues(self) -> str:
        """The key of the set of all queue names."""
        return f"{self.prefix}:queues"

    def unique(self, queue: str) -> str:
        """Return the prefix of unique keys; on a Cluster each queue has its own, since a step accesses one slot."""
        return f"{self.queue(queue)}:unique:" if self.cluster else f"{self.prefix}:unique:"

    def notifier(self, queue: str) -> str:
        """Return the key of the list that notifies the waiters for *queue*."""
        return f"{self.queue(queue)}:notifier"

    def wake(self, queue: str, name: str) -> str:
        """Return the key of the list that wakes only the waiter *name* for *queue*."""
        return f"{self.queue(queue)}:wake:{name}"

    def record(self, key: str) -> str:
        """Return the key of the record *key*."""
        return f"{self.prefix}:record:{key}"

    def listed(self, key: str) -> str | None:
        """Return the key of the set that lists the records whose keys begin as *key* does; ``None`` if none does.

        A Cluster has no such sets, since a step accesses one slot. Results are too many for one.
        """
        kind, colon, _ = key.partition(":")
        is_listed = colon and not self.cluster and not key.startswith(RESULT)
        return f"{self.prefix}:listed:{kind}:" if is_listed else None

    def group(self, name: str) -> str:
        """Return the key of the set of members of a group."""
        return f"{self.prefix}:group:{name}"

    def channel(self, key: str) -> str:
        """Return the channel on which the final record *key* is published; databases share channels."""
        return f"{self.prefix}:final:{self.db}:{key}"
