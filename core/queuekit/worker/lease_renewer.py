"""Renew leases: all of a process in one call, every third of a lease, where user code cannot block it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from queuekit.backend import Record
from queuekit.client.outage import Outage
from queuekit.client.runtime import Runtime
from queuekit.errors import UnavailableError
from queuekit.limiting.slots import beat_of
from queuekit.logs.errors import log_error
from queuekit.worker.lease_table import HeldLease, LeaseTable

__all__ = ["LeaseRenewer"]

_logger = logging.getLogger("queuekit.worker")


class LeaseRenewer:
    """A thread that extends held leases.

    Args:
        runtime: Its broker extends the leases, and its backend stores who holds slots.
        leases: The held leases.
        lease: Seconds of a lease.
        on_lost: Called with the serials of lost leases.
        may_extend: Called with the leases before each round; returns those to renew: not those of a frozen process,
            nor those past their timeout.
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
        self._broker, self._backend = runtime.broker, runtime.backend
        self._leases = leases
        self._lease = lease
        self._on_lost = on_lost
        self._may_extend = may_extend
        self._outage = Outage(runtime, doing="extend leases", first=lease / 3, longest=lease / 3)
        self._lost: set[int] = set()
        """Serials that were reported as lost; their bodies may still run."""
        self._stopped = threading.Event()
        self.thread = threading.Thread(target=self._loop, name="queuekit-lease-renewer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> bool:
        """Stop renewing; held leases expire. Return false if the thread still waits for the broker."""
        self._stopped.set()
        self.thread.join(timeout=5)
        return not self.thread.is_alive()

    def _loop(self) -> None:
        while not self._stopped.wait(self._lease / 3):
            self.extend()

    def extend(self) -> None:
        """Extend all held leases once."""
        try:
            self._extend()
        except UnavailableError as error:
            self._outage.failed(error.what, rest=self._lease / 3)
        except BaseException:  # noqa: BLE001 - if this thread ends, all leases expire
            log_error(_logger, "unexpected error in the lease renewer")
        else:
            self._outage.over()

    def _extend(self) -> None:
        held = self._leases.held()
        self._lost.intersection_update([held_lease.serial for held_lease in held])
        leases = self._may_extend([held_lease for held_lease in held if held_lease.serial not in self._lost])
        size, kept = self._broker.limits.max_batch, list[str]()
        for start in range(0, len(leases), size):
            batch = leases[start : start + size]
            lost = set(self._broker.extend([held_lease.lease for held_lease in batch], lease=self._lease))
            kept += [one.id for one in batch if one.slot and one.lease not in lost]
            if lost:
                self._report([held_lease.serial for held_lease in batch if held_lease.lease in lost])
        self._keep_slots(kept)

    def _keep_slots(self, ids: Sequence[str]) -> None:
        """Show that the holders of slots are alive, as their leases are."""
        if ids and self._backend is not None:
            self._backend.put([Record(key=beat_of(id), ttl=self._lease) for id in ids])

    def _report(self, serials: list[int]) -> None:
        """Report the lost leases that were not settled meanwhile."""
        held = {held_lease.serial for held_lease in self._leases.held()}
        lost = [serial for serial in serials if serial in held]
        self._lost.update(lost)
        if lost:
            self._on_lost(lost)
