"""Refuse what does not come from somebody who may, or from another site; add the headers that protect a page."""

from __future__ import annotations

import hmac
import inspect
import re
import secrets
from collections.abc import Awaitable, Collection, MutableMapping
from hashlib import sha256
from typing import Any

import attrs
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from queuekit_dashboard.access import Access, Accessor

__all__ = ["CSRF", "LOOPBACK", "AccessGuard", "Visit", "csrf_token", "visit_of"]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine."""
CSRF = "csrf"
"""Field of a form that holds its token."""
_SAFE = frozenset({"GET", "HEAD"})
_OPEN = ("/static/", "/login")
"""Paths that anybody may ask for."""
_LONGEST_COOKIE = 100
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::\d{0,5})?", re.ASCII)
"""A name, or an address in brackets, and perhaps a port."""


@attrs.frozen(kw_only=True)
class Visit:
    """What is known of a request that was let in.

    Attributes:
        access: Who asks; ``None`` for the page where a token is entered.
        nonce: Marks the scripts that a page may run.
        seed: The cookie from which the token of forms is made.
    """

    access: Access | None
    nonce: str
    seed: str

    @property
    def may_act(self) -> bool:
        """Whether they may change things."""
        return self.access is not None and self.access.role == "act"


def visit_of(request: Request) -> Visit:
    """Return what the guard knows of *request*."""
    visit: Visit = request.scope["queuekit_visit"]
    return visit


def csrf_token(seed: str) -> str:
    """Return the token that forms carry; who cannot read the cookie *seed*, which scripts cannot, does not know it."""
    return hmac.digest(seed.encode(), b"queuekit form", sha256).hex()


class AccessGuard:
    """Middleware that answers for the dashboard where a request must not reach it.

    Args:
        app: The dashboard.
        access: Says who asks.
        hosts: Names, without ports, under which it may be asked for; ``None`` for any.
    """

    def __init__(self, app: ASGIApp, *, access: Accessor, hosts: Collection[str] | None) -> None:
        self._app = app
        self._access = access
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or let it in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        seed = request.cookies.get(_seed_name(request), "")
        fresh = not 0 < len(seed) <= _LONGEST_COOKIE
        seed = secrets.token_urlsafe(24) if fresh else seed
        nonce = secrets.token_urlsafe(16)
        refusal = self._stray(request)
        access = None if refusal is not None else await self._who(request)
        if refusal is None:
            refusal = self._unwanted(request, access)
        scope["queuekit_visit"] = Visit(access=access, nonce=nonce, seed=seed)
        answer = self._app if refusal is None else refusal
        cookie = _seed_cookie(request, seed) if fresh and refusal is None else ""
        await answer(scope, receive, _adding(send, nonce, cookie))

    async def _who(self, request: Request) -> Access | None:
        if inspect.iscoroutinefunction(self._access):
            answer: Any = await self._access(request)
        else:
            answer = await run_in_threadpool(self._access, request)
            if isinstance(answer, Awaitable):
                answer = await answer
        return answer if isinstance(answer, Access) else None

    def _stray(self, request: Request) -> Response | None:
        """Refuse a name that is not ours, which a rebound one is not, and a change that another site asks for."""
        host = request.headers.get("host", "")
        found = _HOST.fullmatch(host)
        name = host if found is None else found[1]
        if self._hosts is not None and name.lower() not in self._hosts:
            return _text(f"{name[:100]!r} is not a name of this dashboard; see --allow-host", 421)
        if request.method in _SAFE:
            return _text("another site may only link here", 403) if _is_taken_in(request.headers) else None
        if request.method != "POST":
            return _text("only GET and POST are understood", 405)
        return None if _is_same_origin(request.headers, host) else _text("this form does not come from this site", 403)

    def _unwanted(self, request: Request, access: Access | None) -> Response | None:
        """Refuse somebody who may not."""
        root: str = request.scope.get("root_path", "")
        if request.scope["path"].removeprefix(root).startswith(_OPEN):
            return None
        challenge = getattr(self._access, "challenge", "")
        if access is None and challenge:
            return _text("a name and password are needed", 401, {"www-authenticate": challenge})
        if access is None:
            return _text("closed: open the address that was printed, or logged, when the dashboard started", 403)
        if request.method not in _SAFE and access.role != "act":
            return _text(f"{access.name} may look, and not act", 403)
        return None


def _is_taken_in(headers: Headers) -> bool:
    """Return whether a browser says that a page of another site wants to use the answer, not to lead to it."""
    if headers.get("sec-fetch-site", "none") in {"none", "same-origin"}:
        return False
    return headers.get("sec-fetch-mode") != "navigate" or headers.get("sec-fetch-dest", "document") != "document"


def _is_same_origin(headers: Headers, host: str) -> bool:
    """Return whether a browser says that a page of this site sends the request; all browsers say so of forms."""
    fetch_site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if fetch_site is not None and fetch_site != "same-origin":
        return False
    if origin is None:
        return fetch_site is not None
    # A proxy that ends TLS changes the scheme, so only name and port are compared.
    scheme, _, place = origin.partition("://")
    return scheme in {"http", "https"} and bool(host) and place.lower() == host.lower()


def _text(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers)


def _seed_name(request: Request) -> str:
    return f"queuekit_forms_{request.url.port or 0}"


def _seed_cookie(request: Request, seed: str) -> str:
    secure = "; Secure" if request.url.scheme == "https" else ""
    return f"{_seed_name(request)}={seed}; Path=/; HttpOnly; SameSite=Strict{secure}"


def _adding(send: Send, nonce: str, cookie: str) -> Send:
    """Return *send*, which adds the headers that protect a page."""
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    fixed = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        # With "no-referrer", browsers would not say where a form comes from.
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=_with_headers(message))
            for name, value in fixed.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
            if cookie:
                headers.append("set-cookie", cookie)
        await send(message)

    return sending


def _with_headers(message: Message) -> MutableMapping[str, Any]:
    message.setdefault("headers", [])
    return message
