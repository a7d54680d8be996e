"""The scripts in ``lua/``, assembled from shared parts."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

import attrs

__all__ = ["SCRIPTS", "Script", "script"]


@attrs.frozen
class Script:
    """A script. Calls send its digest, and its text only to a server that does not know it."""

    name: str
    text: str
    sha: str


_PARTS = {
    "register": ("register",),
    "wake": ("wake",),
    "send_one": ("send_one",),
    "send_plain": ("quick", "recording", "send_plain"),
    "send": ("base", "unique", "lanes", "writing", "send"),
    "claim": ("base", "unique", "lanes", "upkeep", "claim"),
    "extend": ("base", "extend"),
    "ack": ("quick", "leaving", "ack"),
    "finish": ("quick", "recording", "leaving", "finish"),
    "settle": ("base", "unique", "lanes", "writing", "settling", "settle"),
    "commit": ("base", "unique", "lanes", "writing", "settling", "recording", "joining", "commit"),
    "put": ("base", "recording", "put"),
    "delete": ("delete",),
    "join": ("base", "joining", "join"),
    "join_many": ("base", "join_many"),
    "counts": ("base", "lanes", "counts"),
    "peek": ("base", "lanes", "upkeep", "inspecting", "peek"),
    "find": ("base", "lanes", "upkeep", "inspecting", "find"),
    "remove": ("base", "unique", "lanes", "upkeep", "writing", "inspecting", "remove"),
    "requeue": ("base", "unique", "lanes", "writing", "requeue"),
}
SCRIPTS = tuple(_PARTS)
"""Names of all scripts."""


@cache
def script(name: str) -> Script:
    """Return the script *name*."""
    folder = resources.files("queuekit_redis") / "lua"
    text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in _PARTS[name])
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
