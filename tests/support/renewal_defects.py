"""A broker whose renewals change the token, and others that do so wrongly on purpose."""

# The docstring of a class says what each of its methods does wrong.
# ruff: noqa: D102
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence

from queuekit.broker import Lease
from support.broker_defects import Defective


class Renewing(Defective):
    """Right: each renewal makes another token, and the old one is worth nothing."""

    def renew(self, leases: Sequence[Lease], *, lease: float) -> list[Lease | None]:
        lost = set(self.extend(leases, lease=lease))
        return [None if one in lost else self.renewed(one) for one in leases]

    def renewed(self, lease: Lease) -> Lease | None:
        """Return the lease under its new token."""
        with self._engine.lock:
            entry = self._engine.messages.held(lease)
            if entry is None:
                return None
            entry.token = self._token()
            return lease._replace(token=entry.token)


class ReturnsTheOldToken(Renewing):
    """Changes the token, and keeps it to itself."""

    def renew(self, leases: Sequence[Lease], *, lease: float) -> list[Lease | None]:
        renewed = super().renew(leases, lease=lease)
        return [None if now is None else one for one, now in zip(leases, renewed, strict=True)]


class RenewsOutOfOrder(Renewing):
    """Answers in the order of the ids."""

    def renew(self, leases: Sequence[Lease], *, lease: float) -> list[Lease | None]:
        return super().renew(sorted(leases, key=lambda one: one.id), lease=lease)


class RenewsAndLeavesOut(Renewing):
    """Answers for those alone that it has renewed."""

    def renew(self, leases: Sequence[Lease], *, lease: float) -> list[Lease | None]:
        return [one for one in super().renew(leases, lease=lease) if one is not None]


class RenewsInNameOnly(Renewing):
    """Makes another token, and lets the lease end as before."""

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        return [one for one in leases if self._engine.messages.held(one) is None]


class RenewsForHours(Renewing):
    """Takes seconds for minutes."""

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        return super().extend(leases, lease=60 * lease)


class HonoursTheOldToken(Renewing):
    """Makes up another token, and takes the old one as well."""

    def renewed(self, lease: Lease) -> Lease | None:
        return lease._replace(token=f"new {lease.token}")

    def extend(self, leases: Sequence[Lease], *, lease: float) -> list[Lease]:
        plain = {one: one._replace(token=one.token.removeprefix("new ")) for one in leases}
        lost = set(super().extend(list(plain.values()), lease=lease))
        return [one for one, bare in plain.items() if bare in lost]
