"""Tokens that stay, for a broker whose renewals change them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import attrs

from queuekit.broker import Broker, Delivery, Lease, Settlement
from queuekit.engines.wrapping import WrappedBroker
from queuekit.forks import renew_in_forks

__all__ = ["WithStableTokens"]


class WithStableTokens(WrappedBroker):
    """A broker whose deliveries keep the tokens that they came with, whatever :meth:`Broker.renew` makes of them.

    A renewal and a settlement of this process never run at the same time: a settlement with a token that is being
    replaced would be refused.

    Args:
        broker: Keeps the messages; overrides ``renew``.
    """

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.capabilities = attrs.evolve(broker.capabilities, portable_leases=False, commit=False)
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Begin with a free lock and no leases; those of the parent are its own."""
        self._lock = threading.Lock()
        self._current: dict[str, Lease] = {}
        """The lease to show, by the token that the worker knows; only those that have changed."""

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Renew *leases*, note their new tokens, and return those that are lost."""
        lost: list[Lease] = []
        with self._lock:
            shown = [self._current.get(one.token, one) for one in leases]
            for one, renewed in zip(leases, self._broker.renew(shown, lease=lease), strict=True):
                if renewed is None:
                    lost.append(one)
                    self._current.pop(one.token, None)
                elif renewed != one:
                    self._current[one.token] = renewed
        return lost

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Carry out *settlements* with the present tokens."""
        with self._lock:
            inner = [self._shown(each) for each in settlements]
            lost = {each.token for each in self._broker.settle(inner)}
            for each in settlements:
                self._current.pop(each.delivery.token, None)
        return [each.delivery for each, one in zip(settlements, inner, strict=True) if one.delivery.token in lost]

    def _shown(self, settlement: Settlement) -> Settlement:
        delivery = settlement.delivery
        current = self._current.get(delivery.token)
        if current is None:
            return settlement
        return attrs.evolve(settlement, delivery=attrs.evolve(delivery, token=current.token, number=current.number))
