"""Check the version of the data under a prefix; the first client writes it."""

from __future__ import annotations

from queuekit.layouts import other_layout
from queuekit_redis.keys import LAYOUT
from queuekit_redis.link import Link

__all__ = ["Layout"]


class Layout:
    """Checks the layout once per client.

    Args:
        key: Key of the version.
        where: Server and prefix, for errors.
    """

    def __init__(self, key: str, *, where: str) -> None:
        self._key = key
        self._where = where
        self._is_known = False

    def check(self, link: Link) -> None:
        """Check that the layout has the version of this release, unless the server does not allow reading it.

        A node of a Cluster that does not serve the key does not decide; another one does.

        Raises:
            UnavailableError: The layout has another version.
        """
        if self._is_known:
            return
        _, found = link.converse([("SETNX", self._key, LAYOUT), ("GET", self._key)])
        if isinstance(found, bytes):
            if found != b"%d" % LAYOUT:
                shown = found[:20].decode(errors="replace")
                raise other_layout(self._where, found=shown, known=LAYOUT, elsewhere="set another key_prefix")
            self._is_known = True
