"""Renews locks and connections after a fork: threads do not survive it, so the locks they held would stay held."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Renewable", "renew_in_forks"]


class Renewable(Protocol):
    """An object with locks, threads or connections."""

    def renew_in_fork(self) -> None:
        """Create new locks and drop threads and connections, without touching those of the parent."""
        ...


_renewable: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_forks(one: Renewable) -> None:
    """Call ``one.renew_in_fork()`` in each fork of this process, before anything else runs there."""
    _renewable.add(one)


def _renew() -> None:
    for one in list(_renewable):
        one.renew_in_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
