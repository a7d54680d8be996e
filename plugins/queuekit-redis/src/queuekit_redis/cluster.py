"""Send commands to a Cluster, each to the node that serves the slot of its key."""

from __future__ import annotations

import random
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, TryAgainError

from queuekit.errors import UnavailableError
from queuekit.timelimit import time_left
from queuekit_redis.connections import Connections
from queuekit_redis.failures import Failures
from queuekit_redis.layout import Layout
from queuekit_redis.link import Link, link_maker
from queuekit_redis.options import RedisOptions
from queuekit_redis.server import RedisCall, Server, is_fleeting, load, with_scripts
from queuekit_redis.urls import Address, Target

__all__ = ["ClusterServer"]

TRIES = 40
"""Most times that a call follows a moved slot, or waits while its slot is moving."""
_PAUSE = 0.1
_UNSETTLED = (TryAgainError, ClusterDownError)


class ClusterServer(Server):
    """All nodes of a Cluster.

    Args:
        target: Addresses of some of them.
        options: Options of the connections.
        failures: Makes errors.
        layout: Checked on each new connection, until it is known.
    """

    def __init__(self, target: Target, *, options: RedisOptions, failures: Failures, layout: Layout) -> None:
        super().__init__(failures)
        self._layout = layout
        self._seeds = list(target.addresses)
        self._options = options
        self._make = link_maker(target, options)
        self._pools: dict[Address, Connections] = {}
        self._slots: list[tuple[int, int, Address]] = []

    def call(self, calls: Sequence[RedisCall], *, again: bool) -> list[Any]:
        """Return the reply to each of *calls*, in one round trip to each node involved."""
        calls = [_declared(call) for call in calls]
        replies: list[Any] = [None] * len(calls)
        left = {place: self._node_of(call.route) for place, call in enumerate(calls)}
        give_up = time.monotonic() + time_left(self._options.timeout)
        for turn in range(TRIES):
            left = self._round(calls, left, replies, again=again and turn < TRIES - 1)
            if not left or time.monotonic() > give_up:
                break
            if turn:
                time.sleep(_PAUSE * (0.5 + random.random() / 2))  # noqa: S311 - spreads tries, guards nothing
        return self.raised(replies)

    def _round(
        self, calls: Sequence[RedisCall], left: dict[int, tuple[Address, bool]], replies: list[Any], *, again: bool
    ) -> dict[int, tuple[Address, bool]]:
        """Send the calls in *left* to their nodes, store the replies, and return the calls that must go elsewhere."""
        moved: dict[int, tuple[Address, bool]] = {}
        for (address, asking), places in _by_node(left).items():
            try:
                answers = self._ask(address, [calls[place].arguments for place in places], asking=asking)
            except UnavailableError as error:
                self._forget()
                if not again or not is_fleeting(error):
                    raise
                moved |= {place: self._node_of(calls[place].route) for place in places}
                continue
            for place, answer in zip(places, answers, strict=True):
                replies[place] = answer
                elsewhere = self._redirected(answer, calls[place], address)
                if elsewhere is not None:
                    moved[place] = elsewhere
        return moved

    def _ask(self, address: Address, commands: Sequence[tuple[Any, ...]], *, asking: bool) -> list[Any]:
        with self._pool(address).lent(checked=True) as link:
            if not asking:
                return with_scripts(link, commands)
            replies = [link.converse([("ASKING",), command])[1] for command in commands]
            unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                load(link, {commands[index][1] for index in unknown})
                for index in unknown:
                    replies[index] = link.converse([("ASKING",), commands[index]])[1]
            return replies

    def _redirected(self, answer: Any, call: RedisCall, asked: Address) -> tuple[Address, bool] | None:
        """Return the node to send a call to instead, and whether to send ASKING; ``None`` if *answer* is final."""
        if isinstance(answer, _UNSETTLED):
            return self._node_of(call.route)
        if not isinstance(answer, AskError):  # MovedError is a subclass
            return None
        moved = isinstance(answer, MovedError)
        if moved:
            self._forget()
        return (answer.host or asked[0], int(answer.port)), not moved

    @contextmanager
    def lent(self, route: str) -> Iterator[Link]:
        """Lend a link to the node that serves *route*."""
        address, _ = self._node_of(route)
        try:
            with self._pool(address).lent(checked=True) as link:
                yield link
        except UnavailableError:
            self._forget()
            raise

    def node_of(self, route: str) -> Hashable:
        """Return the address of the node that serves *route*."""
        return self._node_of(route)[0]

    def nodes(self) -> list[str]:
        """Return all primaries."""
        return sorted({f"{address[0]}:{address[1]}" for _, _, address in self._known_slots()})

    def call_node(self, node: str, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the replies of one primary to *commands*."""
        host, _, port = node.rpartition(":")
        return self.raised(self._ask((host, int(port)), commands, asking=False))

    def close(self) -> None:
        """Close all connections."""
        for pool in list(self._pools.values()):
            pool.close()

    def _pool(self, address: Address) -> Connections:
        pool = self._pools.get(address)
        if pool is None:
            new = Connections(
                lambda: self._make(address), options=self._options, failures=self._failures, greet=self._layout.check
            )
            # Without a lock: if a process forks while another thread holds it, the child would wait forever.
            pool = self._pools.setdefault(address, new)
        return pool

    def _node_of(self, route: str) -> tuple[Address, bool]:
        slot = key_slot(route.encode())
        for first, last, address in self._known_slots():
            if first <= slot <= last:
                return address, False
        self._forget()
        raise UnavailableError(f"no node of the Cluster serves slot {slot}")

    def _known_slots(self) -> list[tuple[int, int, Address]]:
        slots = self._slots
        if not slots:
            slots = self._slots = self._ask_for_slots()
        return slots

    def _ask_for_slots(self) -> list[tuple[int, int, Address]]:
        """Ask any node which nodes serve which slots."""
        error: Exception | None = None
        for address in dict.fromkeys([*self._pools, *self._seeds]):
            try:
                (reply,) = self.raised(self._ask(address, [("CLUSTER", "SLOTS")], asking=False))
            except UnavailableError as failed:
                error = failed
                continue
            slots = [(first, last, _address(node, address)) for first, last, node, *_ in reply]
            if slots:
                return slots
        raise error or UnavailableError("no node of the Cluster knows which nodes serve its slots")

    def _forget(self) -> None:
        self._slots = []


def _by_node(left: dict[int, tuple[Address, bool]]) -> dict[tuple[Address, bool], list[int]]:
    """Return the indexes of the calls for each node."""
    by_node: dict[tuple[Address, bool], list[int]] = {}
    for place, node in left.items():
        by_node.setdefault(node, []).append(place)
    return by_node


def _declared(call: RedisCall) -> RedisCall:
    """Return *call*; a script on a queue gets a second declared key, so that it does not start in a moving slot.

    While a slot moves, a node checks only declared keys for having moved. With the name of the queue alone, which is
    not a key, a script would run on the new node before the messages arrive there, and find an empty queue.
    """
    command, *rest = call.arguments
    if command != "EVALSHA" or not call.route.endswith("}"):
        return call
    sha, count, *others = rest
    keys = (*others[:count], f"{call.route}:messages")
    return RedisCall(call.route, (command, sha, count + 1, *keys, *others[count:]))


def _address(node: Sequence[Any], asked: Address) -> Address:
    host = node[0].decode() if node[0] else asked[0]
    return host, int(node[1])
