"""Put pages and actions together into one ASGI application."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from hmac import compare_digest
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, quote, unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from queuekit.app import Queuekit
from queuekit.errors import CapabilityError, NoBackendError, QueuekitError, UnavailableError
from queuekit.operations.actions import person
from queuekit.operations.admin import Admin
from queuekit_dashboard.access import Accessor, Sessions, cookie_name
from queuekit_dashboard.bulk import BulkActions
from queuekit_dashboard.calls import Action, Go, HtmlPage, PageFunction, PageRequest, Site
from queuekit_dashboard.figures import Figures
from queuekit_dashboard.guard import CSRF, LOOPBACK, AccessGuard, csrf_token, visit_of
from queuekit_dashboard.pages import ACTIONS, LISTED, PAGES
from queuekit_dashboard.rendering import prepare, render

__all__ = ["Live", "make", "mounted"]

Live = Literal["events", "poll"]
"""How a page that is open learns of new figures."""
_STATIC = Path(__file__).parent / "static"
_LOG = logging.getLogger("queuekit.dashboard")
_LONGEST_FORM = 1_000_000
"""Most bytes of a form."""
_MOST_FIELDS = 1_000
_LONGEST_SAID = 1_000
_SAID = "queuekit_said"
"""Cookie of what an action did, for the next page."""
_EVERY = 2.0
"""Seconds between two looks for new figures."""
_STREAM = 10.0
"""Seconds after which a stream of events ends, and the browser opens another one: servers of applications that mount
the dashboard wait for it when they stop."""
_MOST_STREAMS = 100
_MOMENT = 0.15
_NOT_OURS = "this form is too old, or not ours: go back, load its page again\n"
Endpoint = Callable[[Request], Awaitable[Response]]


def mounted(app: Queuekit, *, access: Accessor | None, hosts: Sequence[str] | None, live: Live) -> Starlette:
    """Return the dashboard for another application to mount; see :func:`queuekit_dashboard.dashboard`."""
    if access is not None:
        return make(app, access=access, hosts=hosts, live=live)
    sessions = Sessions(person())
    _LOG.warning("open the dashboard once at its path and /login?token=%s", sessions.token)
    return make(app, access=sessions, hosts=LOOPBACK if hosts is None else hosts, live=live)


def make(
    app: Queuekit,
    *,
    access: Accessor,
    hosts: Collection[str] | None,
    live: Live,
    stream: float = _STREAM,
    moment: float = _MOMENT,
) -> Starlette:
    """Return the dashboard.

    ``state.end_streams`` of it ends the streams that are open, from the event loop that serves them.

    Args:
        app: The app to look at.
        access: Says who asks.
        hosts: Names under which it may be asked for; ``None`` for any.
        live: How open pages learn of new figures.
        stream: Seconds after which a stream of events ends.
        moment: Seconds that a page waits for new figures, if there are some of before.
    """
    admin = Admin(app)
    figures, bulk = Figures(admin, moment=moment), BulkActions(admin)
    site = Site(app=app, admin=admin, figures=figures, bulk=bulk, sessions=isinstance(access, Sessions))
    streams = set[asyncio.Event]()
    routes = [
        *(Route(path, _page(site, function, live), methods=["GET"]) for path, function in PAGES.items()),
        *(Route(path, _action(site, action, live), methods=["POST"]) for path, action in ACTIONS.items()),
        Route("/events", _events(site, stream, streams), methods=["GET"]),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    if isinstance(access, Sessions):
        routes.append(Route("/login", _login(access), methods=["GET", "POST"]))
        routes.append(Route("/logout", _logout(access), methods=["POST"]))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        warming = asyncio.create_task(run_in_threadpool(_warm, admin, figures))
        yield
        await warming
        await run_in_threadpool(bulk.close)
        await run_in_threadpool(figures.close)

    guard = [Middleware(AccessGuard, access=access, hosts=hosts)]
    made = Starlette(routes=routes, middleware=guard, lifespan=lifespan, exception_handlers={404: _missing})
    made.router.redirect_slashes = False
    made.state.end_streams = functools.partial(_end_all, streams)
    return made


def _warm(admin: Admin, figures: Figures) -> None:
    """Do what the first look needs, before somebody waits for it: compile templates, connect, read the figures."""
    prepare()
    with suppress(Exception):  # the page says what is wrong
        admin.pauses()
        figures.warm()


def _page(site: Site, function: PageFunction, live: Live) -> Endpoint:
    async def show(request: Request) -> Response:
        call = _call(site, request, {})
        return await run_in_threadpool(_answer, function, call, request, live)

    return show


def _action(site: Site, action: Action, live: Live) -> Endpoint:
    async def act(request: Request) -> Response:
        form = await _form(request)
        if form is None:
            return PlainTextResponse("this form cannot be read, or is too large\n", 413)
        if not _is_ours(form, request):
            return PlainTextResponse(_NOT_OURS, 403)
        call = _call(site, request, form)
        answer = await run_in_threadpool(_answer, action, call, request, live)
        site.figures.forget()
        return answer

    return act


def _is_ours(form: Mapping[str, Sequence[str]], request: Request) -> bool:
    """Return whether a form has the token of our pages."""
    token = next(iter(form.get(CSRF, ())), "")
    return compare_digest(token.encode(), csrf_token(visit_of(request).seed).encode())


def _call(site: Site, request: Request, form: Mapping[str, Sequence[str]]) -> PageRequest:
    access = visit_of(request).access
    assert access is not None  # noqa: S101 - the guard lets nobody else in
    return PageRequest(site=site, access=access, query=dict(request.query_params), form=form)


async def _form(request: Request) -> dict[str, list[str]] | None:
    """Return the fields of a form; ``None`` if it is too large, or of another kind."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            return None
    try:
        text = body.decode()
        return parse_qs(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return None


def _answer(
    function: Callable[[PageRequest], HtmlPage | Go], call: PageRequest, request: Request, live: Live
) -> Response:
    """Return what *function* returns, or the page of its error; no traceback leaves this process."""
    try:
        answer = function(call)
    except QueuekitError as error:
        answer = HtmlPage(template="error.html", values={"lines": error.lines()}, status=_status(error))
    except Exception:  # noqa: BLE001 - a page must not show what a fault of ours is about
        _LOG.exception("%s failed", request.url.path)
        text = "The dashboard failed. Its log says why."
        answer = HtmlPage(template="error.html", values={"lines": [text]}, status=500)
    return _gone(answer, request) if isinstance(answer, Go) else _shown(answer, call, request, live)


def _gone(answer: Go, request: Request) -> Response:
    """Lead to the page after an action, which shows what was done."""
    root = _root(request)
    response = RedirectResponse(root + answer.to, 303)
    if answer.said:
        said = quote(answer.said[:_LONGEST_SAID])
        response.set_cookie(_SAID, said, max_age=30, httponly=True, samesite="strict", path=root or "/")
    return response


def _shown(answer: HtmlPage, call: PageRequest, request: Request, live: Live) -> Response:
    root, visit = _root(request), visit_of(request)
    said = unquote(request.cookies.get(_SAID, ""))[:_LONGEST_SAID]
    common = {
        "root": root,
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "path": request.url.path.removeprefix(root),
        "visit": visit,
        "by": call.by,
        "sessions": call.site.sessions,
        "listed": LISTED,
        "said": said,
        "csrf": csrf_token(visit.seed),
        "live": live,
        "now": call.admin.now(),
    }
    response = HTMLResponse(render(answer.template, common | dict(answer.values)), answer.status)
    if said:
        response.delete_cookie(_SAID, path=root or "/")
    return response


def _status(error: QueuekitError) -> int:
    if isinstance(error, UnavailableError):
        return 503
    if isinstance(error, CapabilityError | NoBackendError):
        return 501
    return 404 if isinstance(error, LookupError) else 400


def _root(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")


async def _missing(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("not found: no page has this address\n", 404)


def _login(sessions: Sessions) -> Endpoint:
    async def login(request: Request) -> Response:
        root = _root(request)
        if request.method != "POST":
            # The token is spent by a form, since programs that preview links would spend it.
            token = request.query_params.get("token", "")
            return HTMLResponse(
                render("login.html", {"root": root, "token": token[:100], "visit": visit_of(request), "wrong": False})
            )
        form = await _form(request)
        id = sessions.open((form or {}).get("token", [""])[0])
        if id is None:
            values = {"root": root, "token": "", "visit": visit_of(request), "wrong": True}
            return HTMLResponse(render("login.html", values), 403)
        response = RedirectResponse(f"{root}/", 303)
        secure, path = request.url.scheme == "https", root or "/"
        response.set_cookie(cookie_name(request), id, httponly=True, samesite="strict", path=path, secure=secure)
        return response

    return login


def _logout(sessions: Sessions) -> Endpoint:
    async def logout(request: Request) -> Response:
        form = await _form(request)
        if form is None or not _is_ours(form, request):
            return PlainTextResponse(_NOT_OURS, 403)
        root = _root(request)
        _LOG.warning(
            "%s has logged out; open the dashboard again at %s/login?token=%s", person(), root, sessions.close(request)
        )
        response = RedirectResponse(f"{root}/login", 303)
        response.delete_cookie(cookie_name(request), path=root or "/")
        return response

    return logout


def _events(site: Site, stream: float, open_streams: set[asyncio.Event]) -> Endpoint:
    """Return the stream that says when figures have changed; the page then reads itself again."""

    async def events(_request: Request) -> Response:
        if len(open_streams) >= _MOST_STREAMS:
            return PlainTextResponse("too many pages are open: this one polls\n", 503)
        return StreamingResponse(_ticks(site, stream, open_streams), media_type="text/event-stream")

    return events


async def _ticks(site: Site, stream: float, open_streams: set[asyncio.Event]) -> AsyncIterator[str]:
    ending, loop = asyncio.Event(), asyncio.get_running_loop()
    end, before = loop.time() + stream, object()
    open_streams.add(ending)
    try:
        while True:
            seen = await run_in_threadpool(_seen, site)
            yield ": as before\n\n" if seen == before else "event: figures\ndata: changed\n\n"
            before = seen
            if loop.time() + _EVERY > end:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), _EVERY)
                return
    finally:
        open_streams.discard(ending)


def _end_all(open_streams: set[asyncio.Event]) -> None:
    for ending in open_streams:
        ending.set()


def _seen(site: Site) -> object:
    """Return what pages show of the figures of now; ``None`` if they cannot be read."""
    try:
        sample = site.figures.look()
    except QueuekitError:
        return None
    return sample.queues, sample.pauses, sample.rate, len(sample.live), [worker.runs for worker in sample.live]
