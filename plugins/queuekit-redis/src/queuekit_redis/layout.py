"""Checks the version of what is stored under a prefix; the first client writes it."""

from __future__ import annotations

from queuekit.layouts import other_layout
from queuekit_redis.keys import LAYOUT
from queuekit_redis.link import Link

__all__ = ["Layout"]


class Layout:
    """What one client knows of the layout; it checks once.

    Args:
        key: Where the version is kept.
        where: The place, for errors.
    """

    def __init__(self, key: str, *, where: str) -> None:
        self._key = key
        self._where = where
        self._is_known = False

    def check(self, link: Link) -> None:
        """Make sure that the layout is ours, unless the server does not allow reading it.

        A node of a Cluster that does not keep the key says nothing; another one does.

        Raises:
            UnavailableError: It is that of another version.
        """
        if self._is_known:
            return
        _, found = link.converse([("SETNX", self._key, LAYOUT), ("GET", self._key)])
        if isinstance(found, bytes):
            if found != b"%d" % LAYOUT:
                shown = found[:20].decode(errors="replace")
                raise other_layout(self._where, found=shown, known=LAYOUT, elsewhere="set another key_prefix")
            self._is_known = True
