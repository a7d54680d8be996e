"""The commands of Memcached's protocol that the plugin uses, and their replies, as plain bytes.

These are meta commands: they can be sent in batches, and each may name the version (CAS) that an item must have.

Source:
    ``protocol.txt`` of Memcached 1.6.18, sections "Meta Get", "Meta Set" and "Meta Delete".
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FAULTS", "Reply", "delete", "fetch", "look", "read_reply", "sign_in", "store", "value_bytes"]

FAULTS = (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")
"""First words of replies to a command that the server did not carry out."""


class Reply(NamedTuple):
    """The reply to one command."""

    code: bytes
    """``HD`` (done), ``VA`` (a value), ``EN`` or ``NF`` (no such item), ``NS`` (the item exists), ``EX`` (the item has
    another version), or a word of :data:`FAULTS`."""
    value: bytes = b""
    cas: int = 0
    """Version of the item."""
    left: int = -1
    """Seconds until it expires; -1 for never."""
    flags: int = 0
    text: str = ""
    """What the server says about a fault."""


def fetch(key: bytes) -> bytes:
    """Return the command that gets a value with its version and the seconds that it has left."""
    return b"mg %b v c t\r\n" % key


def look(key: bytes) -> bytes:
    """Return the command that gets the flags of an item without its value."""
    return b"mg %b f\r\n" % key


def store(key: bytes, value: bytes, *, life: int | None, flags: int = 0, cas: int | None = None) -> bytes:
    """Return the command that stores a value.

    Args:
        key: Key of the item.
        value: Its value.
        life: Its end as the server takes it, see :func:`~queuekit_memcached.encoding.life_of`; ``None`` for never.
        flags: Small number that is kept with it.
        cas: Store only over this version; 0: only if the key is free; ``None``: always.
    """
    end = b"" if life is None else b" T%d" % life
    guard = b"" if cas is None else b" C%d" % cas if cas else b" ME"
    return b"ms %b %d F%d%b%b\r\n%b\r\n" % (key, len(value), flags, end, guard, value)


def delete(key: bytes, *, cas: int | None = None) -> bytes:
    """Return the command that deletes an item; with *cas*, only that version."""
    return b"md %b\r\n" % key if cas is None else b"md %b C%d\r\n" % (key, cas)


def sign_in(username: str, password: str) -> bytes:
    """Return the first command on a connection to a server with an ``--auth-file``."""
    word = f"{username} {password}".encode()
    return b"set queuekit 0 0 %d\r\n%b\r\n" % (len(word), word)


def value_bytes(line: bytes) -> int | None:
    """Return the length of the value that follows the first *line* of a reply; ``None`` if there is none.

    Raises:
        ValueError: The line is not one of Memcached's.
    """
    return int(line.split(b" ", 2)[1]) if line.startswith(b"VA ") else None


def read_reply(line: bytes, value: bytes = b"") -> Reply:
    """Return the reply with the first *line* and *value*.

    Raises:
        ValueError: The line is not one of Memcached's.
    """
    code, *words = line.split(b" ")
    if code in FAULTS:
        return Reply(code, text=line.decode("ascii", "replace")[:200])
    if code not in (b"HD", b"VA", b"EN", b"NF", b"NS", b"EX"):
        raise ValueError(line[:100])
    numbers = {word[:1]: int(word[1:]) for word in words[code == b"VA" :]}
    return Reply(code, value, numbers.get(b"c", 0), numbers.get(b"t", -1), numbers.get(b"f", 0))
