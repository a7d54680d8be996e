"""Who asks, and what they may do: passwords of users, or sessions that a one-time token opens."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

import attrs
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from queuekit.errors import ConfigError

__all__ = ["Access", "Accessor", "Role", "Sessions", "Users", "hash_password"]

Role = Literal["read", "act"]
_COST, _BLOCK, _SALT = 2**14, 8, 16
_MOST_CHECKED = 100
"""Most passwords whose check is remembered."""


@attrs.frozen
class Access:
    """Someone who may open the dashboard.

    Attributes:
        name: Who it is, as the log of actions names them.
        role: ``read`` to look at everything, ``act`` to change things as well.
    """

    name: str
    role: Role = "read"


Accessor = Callable[[Request], Access | Awaitable[Access | None] | None]
"""Returns who sends a request; ``None`` for somebody who may not."""


def hash_password(password: str, *, salt: bytes | None = None) -> str:
    """Return the text to put into ``[dashboard] passwords`` for *password*."""
    salt = salt or secrets.token_bytes(_SALT)
    key = hashlib.scrypt(password.encode(), salt=salt, n=_COST, r=_BLOCK, p=1)
    return f"scrypt.{salt.hex()}.{key.hex()}"


class Users:
    """Users with passwords, by HTTP Basic authentication.

    Args:
        lines: Each ``name:role:hash``.

    Raises:
        ConfigError: A line is not of that form, or two are of one user.
    """

    challenge = 'Basic realm="queuekit", charset="UTF-8"'

    def __init__(self, lines: Iterable[str]) -> None:
        self._users: dict[str, tuple[Role, bytes, str]] = {}
        for name, found in map(_user, lines):
            if self._users.setdefault(name, found) != found:
                raise ConfigError(f"the user {name[:60]!r} of the dashboard is written twice", fix="Remove one")
        self._key = secrets.token_bytes(32)
        self._checked: dict[bytes, Access] = {}
        self._turn = asyncio.Semaphore(1)
        """Lets one password be checked at a time, since each check is slow on purpose; the others hold no thread."""

    async def __call__(self, request: Request) -> Access | None:
        """Return the user whose name and password *request* carries."""
        given = request.headers.get("authorization", "")
        seen = hmac.digest(self._key, given.encode("utf-8", "replace"), "sha256")
        found = self._checked.get(seen)
        if found is None and given:
            async with self._turn:
                found = self._checked.get(seen) or await run_in_threadpool(self._check, given)
            if found is not None and len(self._checked) < _MOST_CHECKED:
                self._checked[seen] = found
        return found

    def _check(self, given: str) -> Access | None:
        kind, _, coded = given.partition(" ")
        try:
            name, colon, password = base64.b64decode(coded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        if kind.lower() != "basic" or not colon:
            return None
        # The name of nobody takes as long as that of somebody.
        role, salt, wanted = self._users.get(name, ("read", b"none", ""))
        right = hmac.compare_digest(hash_password(password, salt=salt), wanted)
        return Access(name, role) if right else None


def _user(line: str) -> tuple[str, tuple[Role, bytes, str]]:
    name, _, rest = line.partition(":")
    role, _, hashed = rest.partition(":")
    parts = hashed.split(".")
    try:
        kind, salt, _ = parts[0], bytes.fromhex(parts[1]), bytes.fromhex(parts[2])
    except (IndexError, ValueError):
        kind, salt = "", b""
    if not name or role not in ("read", "act") or kind != "scrypt" or not salt or len(parts) != 3:  # noqa: PLR2004 - three parts
        # What has no colon may be a password, or a hash.
        who = f"the user {name[:60]!r}" if rest else "a user"
        raise ConfigError(
            f"{who} of the dashboard is not written as name:role:hash",
            fix="The role is read or act; print a hash:  queuekit dashboard --hash",
        )
    return name, ("act" if role == "act" else "read", salt, hashed)


class Sessions:
    """Sessions in this process. A one-time token opens one, and a cookie names it afterwards.

    Args:
        name: Who the holder of a session is, as the log of actions names them.
    """

    challenge = ""

    def __init__(self, name: str) -> None:
        self._access = Access(name, "act")
        self.token = secrets.token_urlsafe(24)
        """The token, until it is used."""
        self._open: dict[str, None] = {}
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Access | None:
        """Return the holder of the session that the cookie of *request* names."""
        return self._access if request.cookies.get(cookie_name(request)) in self._open else None

    def open(self, token: str) -> str | None:
        """Return the id of a new session; ``None`` if *token* is not the token, or has been used."""
        with self._lock:
            if not self.token or not hmac.compare_digest(token.encode(), self.token.encode()):
                return None
            self.token = ""
            id = secrets.token_urlsafe(32)
            self._open[id] = None
            return id

    def close(self, request: Request) -> str:
        """End the session of *request*, and return the new token that opens the next one."""
        with self._lock:
            self._open.pop(request.cookies.get(cookie_name(request), ""), None)
            self.token = self.token or secrets.token_urlsafe(24)
            return self.token


def cookie_name(request: Request) -> str:
    """Return the name of the cookie of a session; browsers keep those of all ports of a machine together."""
    return f"queuekit_session_{request.url.port or 0}"
