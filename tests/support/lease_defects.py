"""Brokers whose leases belong to somebody, wrong on purpose: to a client, to a process, to a fork."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

from queuekit.broker import Dead, Delivery, Lease, Release, Settlement
from queuekit.engines.sqlite import SqliteBroker
from support.broker_defects import Defective


class _Remembering(Defective):
    """Remembers what this client has claimed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._claimed: set[str] = set()

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        self._claimed.update(each.token for each in found)
        return found


class ExtendsItsOwn(_Remembering):
    """Renews what this client has claimed, and takes all else for lost."""

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        mine = [one for one in leases if one.token in self._claimed]
        return super().extend(mine, lease=lease) + [one for one in leases if one.token not in self._claimed]


class SettlesItsOwn(ExtendsItsOwn):
    """Settles what this client has claimed, and takes all else for lost; renews anything."""

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        return super(ExtendsItsOwn, self).extend(leases, lease=lease)

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        mine = [each for each in settlements if each.delivery.token in self._claimed]
        return super().settle(mine) + [each.delivery for each in settlements if each not in mine]


class BuriesByHeart(_Remembering):
    """Puts a dead letter together from what it remembers of its own claims."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        return super().settle([each for each in settlements if not self._is_forgotten(each)])

    def _is_forgotten(self, settlement: Settlement) -> bool:
        return isinstance(settlement, Dead) and settlement.delivery.token not in self._claimed


class NeedsTheMessage(Defective):
    """Puts a message back with what the settlement shows of it, and not with what was sent."""

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        lost = super().settle(settlements)
        shown = {each.delivery.id: each.delivery.envelope for each in settlements if isinstance(each, Release)}
        for queue in {envelope.queue for envelope in shown.values()}:
            for entry in self.entries(queue):
                entry.envelope = shown.get(entry.envelope.id, entry.envelope)
        return lost


class OfItsProcess(SqliteBroker):
    """Renews what was claimed in the memory of this process, which a fork has as well."""

    claimed: ClassVar[set[str]] = set()

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        self.claimed.update(self.mark(each.token) for each in found)
        return found

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        mine = [one for one in leases if self.mark(one.token) in self.claimed]
        return super().extend(mine, lease=lease) + [one for one in leases if one not in mine]

    def mark(self, token: str) -> str:
        """Return what this process knows a claim by."""
        return token


class OfItsConnection(OfItsProcess):
    """Renews what was claimed over this process's own connection, which a fork must not use."""

    def mark(self, token: str) -> str:
        return f"{os.getpid()}:{token}"
