"""A browser without a screen: asks an ASGI application, keeps its cookies, and fills its forms."""

import asyncio
import html
import re
from collections.abc import Awaitable, Callable, Mapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode, urlsplit

import attrs

__all__ = ["Answer", "Browser"]

Application = Callable[[Any, Any, Any], Awaitable[None]]


@attrs.frozen(kw_only=True)
class Answer:
    """What a request was answered with."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of several with one name, the last."""
    cookies: tuple[str, ...]
    """The cookies that it sets, as they are written."""
    text: str

    @property
    def words(self) -> str:
        """The text that a reader sees, its spaces collapsed."""
        return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", self.text))).strip()


class Browser:
    """Asks *application*, mounted at *root*, as a page of *origin* would.

    Args:
        application: What to ask.
        root: Path at which it is mounted.
        origin: Scheme, name and port under which it is known.
    """

    def __init__(self, application: Application, *, root: str = "", origin: str = "http://127.0.0.1:9460") -> None:
        self._application = application
        self._root = root
        self.origin = origin
        self.cookies: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        """Sent with each request."""

    def get(self, path: str, **headers: str) -> Answer:
        """Return the answer to GET."""
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, /, *, page: str = "/", **fields: str) -> Answer:
        """Send a form that is on *page*, with its token, and follow the answer."""
        answer = self.ask("POST", path, fields={"csrf": self.token(page), **fields}, headers={"origin": self.origin})
        if answer.status != 303:
            return answer
        return self.get(answer.headers["location"].removeprefix(self._root))

    def token(self, page: str = "/") -> str:
        """Return the token of the forms on *page*."""
        return self.field(page, "csrf") or ""

    def field(self, page: str, name: str) -> str | None:
        """Return what a hidden field holds on *page*."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.get(page).text)
        return html.unescape(found[1]) if found else None

    def ask(
        self,
        method: str,
        path: str,
        *,
        fields: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer to one request; *headers* replace those that a browser sends."""
        return asyncio.run(self.asking(method, path, fields=fields, body=body, headers=headers))

    async def asking(
        self,
        method: str,
        path: str,
        *,
        fields: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer as :meth:`ask` does, in an event loop that may ask other things at the same time."""
        sent = {"host": urlsplit(self.origin).netloc, **self.headers}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if fields is not None:
            body = urlencode(fields).encode()
            sent["content-type"] = "application/x-www-form-urlencoded"
        sent |= {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        target, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": urlsplit(self.origin).scheme,
            "path": self._root + target,
            "raw_path": (self._root + target).encode(),
            "root_path": self._root,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1", "replace")) for name, value in sent.items()],
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 9460),
            "state": {},
        }
        answer = await _asked(self._application, scope, body)
        for cookie in answer.cookies:
            self._keep(cookie)
        return answer

    def _keep(self, cookie: str) -> None:
        for name, morsel in SimpleCookie(cookie).items():
            if morsel["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value


async def _asked(application: Application, scope: dict[str, Any], body: bytes) -> Answer:
    given = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not given:
            await asyncio.Event().wait()  # the browser stays connected
        return given.pop()

    async def send(message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        sent.append(message)

    await application(scope, receive, send)
    headers = [(name.decode(), value.decode("latin-1")) for name, value in sent[0]["headers"]]
    return Answer(
        status=sent[0]["status"],
        headers=dict(headers),
        cookies=tuple(value for name, value in headers if name == "set-cookie"),
        text=b"".join(message.get("body", b"") for message in sent[1:]).decode(),
    )
