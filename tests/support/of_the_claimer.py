"""A broker whose leases only the process that claimed can renew and settle; as a plugin, ``claimer:///FILE``.

It is the SQLite broker, and writes down each process that shows a lease which it has not claimed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from queuekit.broker import Delivery, Lease, Settlement
from queuekit.engines.sqlite import SqliteBroker
from queuekit.hookspecs import API_VERSION, BrokerSpec, hookimpl

__all__ = ["INTRUDERS", "ClaimersBroker", "intruders"]

INTRUDERS = "INTRUDERS_OF_TESTS"
"""Name of a variable: the file to write into."""

queuekit_api = API_VERSION
CAPABILITIES = attrs.evolve(SqliteBroker.capabilities, portable_leases=False, commit=False)


def intruders() -> list[str]:
    """Return the deeds of processes that had not claimed, a line each."""
    written = Path(os.environ[INTRUDERS])
    return written.read_text(encoding="utf-8").splitlines() if written.exists() else []


class ClaimersBroker(SqliteBroker):
    """Refuses leases that this process has not claimed."""

    capabilities = CAPABILITIES
    _claimed: set[str] | None = None

    def receive(self, queues: Sequence[str], *, limit: int, wait: float, lease: float) -> list[Delivery]:
        """Take messages, and note which."""
        found = super().receive(queues, limit=limit, wait=wait, lease=lease)
        self._claimed = (self._claimed or set()) | {each.token for each in found}
        return found

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        """Renew what was claimed here."""
        mine = [one for one in leases if self._is_mine(one.token, "extend")]
        return super().extend(mine, lease=lease) + [one for one in leases if one not in mine]

    def settle(self, settlements: Sequence[Settlement]) -> list[Delivery]:
        """Settle what was claimed here."""
        mine = [each for each in settlements if self._is_mine(each.delivery.token, "settle")]
        return super().settle(mine) + [each.delivery for each in settlements if each not in mine]

    def _is_mine(self, token: str, deed: str) -> bool:
        if token in (self._claimed or ()):
            return True
        with Path(os.environ[INTRUDERS]).open("a", encoding="utf-8") as file:
            file.write(f"{deed} by {os.getpid()}\n")
        return False


@hookimpl
def queuekit_brokers() -> Iterable[BrokerSpec]:
    """Return the broker."""
    return [
        BrokerSpec(
            schemes=("claimer",),
            factory="support.of_the_claimer:ClaimersBroker",
            options="queuekit.engines.sqlite:SqliteOptions",
            capabilities=CAPABILITIES,
            limits=SqliteBroker.limits,
            summary="leases of the process that claimed",
        )
    ]
