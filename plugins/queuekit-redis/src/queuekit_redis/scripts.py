"""The scripts in ``lua/``, put together from parts that they share."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

import attrs

__all__ = ["SCRIPTS", "Script", "script"]


@attrs.frozen
class Script:
    """What is sent by its digest, and in full only to a server that does not know it."""

    name: str
    text: str
    sha: str


_PARTS = {
    "send": ("common", "send"),
    "claim": ("common", "upkeep", "claim"),
    "extend": ("common", "extend"),
    "settle": ("common", "settling", "settle"),
    "commit": ("common", "settling", "recording", "commit"),
    "put": ("common", "recording", "put"),
    "delete": ("common", "delete"),
    "join": ("common", "recording", "join"),
    "counts": ("common", "counts"),
    "peek": ("common", "upkeep", "looking", "peek"),
    "find": ("common", "upkeep", "looking", "find"),
    "remove": ("common", "looking", "remove"),
    "requeue": ("common", "requeue"),
}
SCRIPTS = tuple(_PARTS)
"""Names of all scripts."""


@cache
def script(name: str) -> Script:
    """Return the script *name*."""
    folder = resources.files("queuekit_redis") / "lua"
    text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in _PARTS[name])
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
