"""Keeps leases alive: all of a process's in one call, every third of a lease, where user code cannot block it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from queuekit.client.outage import Outage
from queuekit.client.runtime import Runtime
from queuekit.errors import UnavailableError
from queuekit.logs.errors import log_error
from queuekit.worker.lease_table import HeldLease, LeaseTable

__all__ = ["LeaseRenewer"]

_logger = logging.getLogger("queuekit.worker")


class LeaseRenewer:
    """A thread that extends what is held.

    Args:
        runtime: Has the broker that extends.
        leases: Tells what is held.
        lease: Seconds of a lease.
        on_lost: Called with the serials of leases that turned out to be lost.
        may_extend: Asked before each round, with the leases; returns those still deserving it: not those of a
            frozen process, nor those past their timeout.
    """

    def __init__(
        self,
        runtime: Runtime,
        leases: LeaseTable,
        *,
        lease: float,
        on_lost: Callable[[list[int]], None],
        may_extend: Callable[[list[HeldLease]], list[HeldLease]] = lambda leases: leases,
    ) -> None:
        self._broker = runtime.broker
        self._leases = leases
        self._lease = lease
        self._on_lost = on_lost
        self._may_extend = may_extend
        self._outage = Outage(runtime, doing="extend leases", first=lease / 3, longest=lease / 3)
        self._lost: set[int] = set()
        """Serials that were reported and may be held still: their bodies have not ended."""
        self._stopped = threading.Event()
        self.thread = threading.Thread(target=self._loop, name="queuekit-lease-renewer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def stop(self) -> bool:
        """End; what is held is left to end by itself. False if it is still busy with a broker that does not answer."""
        self._stopped.set()
        self.thread.join(timeout=5)
        return not self.thread.is_alive()

    def _loop(self) -> None:
        while not self._stopped.wait(self._lease / 3):
            self.extend()

    def extend(self) -> None:
        """Extend all that is held, once."""
        try:
            self._extend()
        except UnavailableError as error:
            self._outage.failed(error.what, rest=self._lease / 3)
        except BaseException:  # noqa: BLE001 - without it all leases end
            log_error(_logger, "the renewer met an error that it does not know")
        else:
            self._outage.over()

    def _extend(self) -> None:
        held = self._leases.held()
        self._lost.intersection_update([held_lease.serial for held_lease in held])
        leases = self._may_extend([held_lease for held_lease in held if held_lease.serial not in self._lost])
        size = self._broker.limits.max_batch
        for start in range(0, len(leases), size):
            batch = leases[start : start + size]
            lost = set(self._broker.extend([held_lease.lease for held_lease in batch], lease=self._lease))
            if lost:
                self._report([held_lease.serial for held_lease in batch if held_lease.lease in lost])

    def _report(self, serials: list[int]) -> None:
        """Report those that were not settled meanwhile."""
        held = {held_lease.serial for held_lease in self._leases.held()}
        lost = [serial for serial in serials if serial in held]
        self._lost.update(lost)
        if lost:
            self._on_lost(lost)
