"""The dashboard is closed, and stays closed to other sites, rebound names, scripts in data, and curious readers."""

import asyncio
import base64
import functools
import html
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import attrs
import pytest

from queuekit import Queuekit, Secret
from queuekit.errors import ConfigError
from queuekit.operations.admin import Admin
from support.browsing import Answer, Browser
from support.commands import queuekit, write
from support.waiting import PATIENCE
from support.working import burst, counts, make_app

pytest.importorskip("queuekit_dashboard", reason="pip install -e plugins/queuekit-dashboard starlette jinja2 uvicorn")

HOSTS = ("127.0.0.1", "localhost", "[::1]")
SCRIPT = "<script>alert(1)</script>"
TRICKS = (
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "' onfocus=alert(1) autofocus='",
    "{{ 7777*7777 }}{% raw %}",
    "javascript:alert(1)",
    "</pre><svg onload=alert(1)>",
    "\u202eevil\x00\x1b[31m",
)
"""Texts that do harm where a page takes them for its own."""


@attrs.frozen
class House:
    """A dashboard that its owner has opened, and a message in its queue."""

    app: Queuekit
    made: Any
    owner: Browser
    token: str
    """The token that opened it."""

    def stranger(self, **options: Any) -> Browser:
        """Return the browser of somebody who has not opened it."""
        return Browser(self.made, **options)


@contextmanager
def _built() -> Iterator[House]:
    """Yield a dashboard with a one-time token, as it runs alone."""
    from queuekit_dashboard.access import Sessions
    from queuekit_dashboard.web import make

    app = make_app()

    @app.task(name="add")
    def add(x: Any, y: Any = None, card: Annotated[str, Secret] = "") -> None:
        """Fail with its argument."""
        raise ValueError(str(x))

    add.send(1)
    sessions = Sessions("ann@host")
    made, token = make(app, access=sessions, hosts=HOSTS, live="events", stream=0.0, moment=PATIENCE), sessions.token
    owner = Browser(made)
    opened = owner.ask("POST", "/login", fields={"token": token}, headers={"origin": owner.origin})
    assert opened.status == 303
    yield House(app, made, owner, token)
    app.close()


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A dashboard for tests that change nothing, if it is right."""
    with _built() as made:
        yield made


@pytest.fixture
def fresh() -> Iterator[House]:
    """A dashboard for one test alone."""
    with _built() as made:
        yield made


PURGE = {"name": "default", "place": "ready", "sure": "yes"}


def purge(browser: Browser, *, csrf: str, **headers: str) -> Answer:
    """Return the answer to a form that deletes the message."""
    return browser.ask("POST", "/queue/purge", fields={"csrf": csrf, **PURGE}, headers=headers)


def is_kept(house: House) -> bool:
    """Return whether the message is still there, and no action recorded."""
    return counts(house.app) == {"ready": 1} and Admin(house.app).actions() == []


# -- somebody who has not logged in


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/dead", "/events", "/static/live.js", "/login"])
def test_other_site_cannot_take_pages_in(house: House, path: str, site: str) -> None:
    """Not as a frame, a script, an image or by fetch, which browsers may send passwords with; it may link to a page."""
    uses = [("no-cors", "image"), ("no-cors", "script"), ("cors", "empty"), ("navigate", "iframe")]

    refused = [house.owner.get(path, sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=to) for mode, to in uses]
    led = house.owner.get("/dead", sec_fetch_site=site, sec_fetch_mode="navigate", sec_fetch_dest="document")

    assert {page.status for page in refused} == {403}
    assert led.status == 200


def test_head_is_no_login(fresh: House) -> None:
    """Only a form spends a token; its method is checked before its origin can be left out."""
    fresh.owner.post("/logout")
    token = fresh.made.user_middleware[0].kwargs["access"].token

    asked = fresh.stranger().ask("HEAD", "/login", fields={"token": token})

    assert asked.status == 200
    assert fresh.made.user_middleware[0].kwargs["access"].token == token


@pytest.mark.parametrize("path", ["/", "/queue?name=default", "/message?id=x", "/dead", "/events", "/nothing"])
def test_stranger_sees_no_page(house: House, path: str) -> None:
    """Without the cookie, no page answers, and none tells whether it exists."""
    answer = house.stranger().get(path)

    assert answer.status == 403
    assert answer.text == "closed: open the address that was printed, or logged, when the dashboard started\n"


def test_stranger_changes_nothing(house: House) -> None:
    """Without the cookie, a form does nothing, even with the right token of forms."""
    stranger = house.stranger()
    stranger.cookies = {name: value for name, value in house.owner.cookies.items() if "forms" in name}

    answer = purge(stranger, csrf=house.owner.token(), origin=stranger.origin)

    assert answer.status == 403
    assert is_kept(house)


def test_logout_ends_the_session(fresh: House, caplog: pytest.LogCaptureFixture) -> None:
    """The cookie opens nothing any more, not even a copy of it; the log names a new token, which opens once."""
    owner, copied = fresh.owner, dict(fresh.owner.cookies)
    other = fresh.stranger()

    page = owner.post("/logout")
    other.cookies = copied
    (token,) = re.findall(r"/login\?token=(\S+)", caplog.text)
    closed = (other.get("/").status, other.get("/events").status)
    opened = owner.ask("POST", "/login", fields={"token": token}, headers={"origin": owner.origin})

    assert page.words.endswith("Open the dashboard")
    assert closed == (403, 403)
    assert (opened.status, owner.get("/").status) == (303, 200)


@pytest.mark.parametrize("csrf", ["", "0" * 64])
def test_logout_needs_the_token_of_forms(house: House, csrf: str) -> None:
    """Another site cannot log anybody out."""
    answer = house.owner.ask("POST", "/logout", fields={"csrf": csrf}, headers={"origin": house.owner.origin})

    assert answer.status == 403
    assert house.owner.get("/").status == 200


def test_move_needs_the_token_of_forms(house: House) -> None:
    """As each action does."""
    fields = {"csrf": "0" * 64, "name": "default", "to": "other"}

    answer = house.owner.ask("POST", "/queue/move", fields=fields, headers={"origin": house.owner.origin})

    assert answer.status == 403
    assert is_kept(house)


def test_token_opens_once(house: House) -> None:
    """A token that was used, e.g. by a reader of the terminal's history, opens nothing."""
    stranger = house.stranger()

    answer = stranger.ask("POST", "/login", fields={"token": house.token}, headers={"origin": stranger.origin})

    assert answer.status == 403
    assert "queuekit_session" not in "".join(stranger.cookies)


@pytest.mark.parametrize("token", ["", "x", "é", "x" * 10_000])
def test_token_cannot_be_guessed(house: House, token: str) -> None:
    """Whatever is no token opens nothing, an empty one after the use of the real one included."""
    stranger = house.stranger()

    answer = stranger.ask("POST", "/login", fields={"token": token}, headers={"origin": stranger.origin})

    assert answer.status == 403


def test_a_look_at_the_address_spends_no_token() -> None:
    """A program that fetches the printed address, e.g. for a preview, leaves the token for its owner."""
    from queuekit_dashboard.access import Sessions
    from queuekit_dashboard.web import make

    app = make_app()
    sessions = Sessions("ann")
    browser = Browser(make(app, access=sessions, hosts=HOSTS, live="poll", moment=PATIENCE))

    page = browser.get(f"/login?token={sessions.token}")

    assert page.status == 200
    assert sessions.open(sessions.token)
    app.close()


def test_session_cookie_is_hidden_from_scripts(house: House) -> None:
    """The cookie of a session is for this site and no script; over TLS, it goes over nothing else."""
    from queuekit_dashboard.access import Sessions
    from queuekit_dashboard.web import make

    sessions = Sessions("ann")
    browser = Browser(
        make(house.app, access=sessions, hosts=HOSTS, live="poll", moment=PATIENCE), origin="https://localhost"
    )

    answer = browser.ask("POST", "/login", fields={"token": sessions.token}, headers={"origin": browser.origin})

    (cookie,) = [one.lower() for one in answer.cookies if "session" in one]
    assert {"httponly", "samesite=strict", "secure"} <= {part.strip() for part in cookie.split(";")}


def test_forged_cookie_opens_nothing(house: House) -> None:
    """A cookie that this process has not given is none."""
    stranger = house.stranger()
    stranger.cookies = dict.fromkeys(house.owner.cookies, "forged")

    assert stranger.get("/").status == 403


# -- another site


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"origin": "https://evil.example"}, id="another site"),
        pytest.param({"origin": "null"}, id="a sandbox"),
        pytest.param({"origin": "http://127.0.0.1:3000"}, id="another port"),
        pytest.param({"origin": "http://127.0.0.1:9460.evil.example"}, id="a longer name"),
        pytest.param({"origin": "http://127.0.0.1:9460", "sec_fetch_site": "cross-site"}, id="cross-site"),
        pytest.param({"origin": "http://127.0.0.1:9460", "sec_fetch_site": "same-site"}, id="same-site"),
        pytest.param({"sec_fetch_site": "none"}, id="nobody"),
        pytest.param({}, id="no browser"),
    ],
)
def test_form_of_another_site_changes_nothing(house: House, headers: dict[str, str]) -> None:
    """A form that another page sends does nothing, even with cookie and token."""
    answer = purge(house.owner, csrf=house.owner.token(), **headers)

    assert answer.status == 403
    assert is_kept(house)


@pytest.mark.parametrize("csrf", ["", "0" * 64, "é"])
def test_form_without_its_token_changes_nothing(house: House, csrf: str) -> None:
    """A form needs the token that only its page holds."""
    answer = purge(house.owner, csrf=csrf, origin=house.owner.origin)

    assert answer.status == 403
    assert is_kept(house)


def test_token_of_another_visitor_changes_nothing(house: House) -> None:
    """The token of forms belongs to a cookie."""
    other = Browser(house.made)
    other.cookies = {name: value for name, value in house.owner.cookies.items() if "session" in name}

    answer = purge(house.owner, csrf=other.token(), origin=house.owner.origin)

    assert answer.status == 403
    assert is_kept(house)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_a_form_acts(house: House, method: str) -> None:
    """An action answers POST alone; a link, an image or a preview changes nothing."""
    answer = house.owner.ask(
        method,
        "/queue/purge?name=default&place=ready&sure=yes",
        fields={"csrf": house.owner.token(), **PURGE},
        headers={"origin": house.owner.origin},
    )

    assert answer.status == 405
    assert is_kept(house)


def test_fields_in_the_address_are_no_form(house: House) -> None:
    """What a form must say is not read from an address."""
    token = house.owner.token()

    answer = house.owner.ask(
        "POST", f"/queue/purge?csrf={token}&name=default&place=ready&sure=yes", headers={"origin": house.owner.origin}
    )

    assert answer.status == 413
    assert is_kept(house)


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "multipart/form-data; boundary=x"])
def test_other_kinds_of_forms_are_not_read(house: House, kind: str) -> None:
    """Kinds that another site could send without asking are no forms."""
    body = json.dumps({"csrf": house.owner.token(), **PURGE}).encode()
    headers = {"origin": house.owner.origin, "content_type": kind}

    answer = house.owner.ask("POST", "/queue/purge", body=body, headers=headers)

    assert answer.status == 413
    assert is_kept(house)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:9460", "127.0.0.1.evil.example", "", "[::1].evil", "localhost.", "[::1"),
        *("localhost:port", "localhost:80@evil.example", "localhost:-1", "127.0.0.1:80:80", "localhost:123456"),
    ],
)
def test_rebound_name_is_refused(house: House, host: str) -> None:
    """A name of another site that leads to this machine is answered with nothing, the login included."""
    pages = [house.owner.get(path, host=host) for path in ("/", "/login", "/static/live.js")]

    assert [page.status for page in pages] == [421, 421, 421]


@pytest.mark.parametrize("host", ["127.0.0.1:9460", "localhost:1", "LOCALHOST", "[::1]:9460"])
def test_names_of_this_machine_are_known(house: House, host: str) -> None:
    """All names of this machine are, with any port, since a tunnel has another."""
    assert house.stranger().get("/login", host=host).status == 200


# -- what data could do


class _Tags(HTMLParser):
    """Collects the tags of a page, as a browser reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.found.append((tag, dict(attrs)))


def _is_harmless(page: Answer) -> bool:
    """Return whether a page has only our own tags and attributes."""
    reader = _Tags()
    reader.feed(page.text)
    scripts = [given for tag, given in reader.found if tag == "script"]
    own = all(given.keys() == {"nonce", "src", "defer"} and "/static/" in str(given["src"]) for given in scripts)
    names = {name for _, given in reader.found for name in given}
    links = {str(given.get("href", "/"))[:1] for _, given in reader.found}
    tags = {tag for tag, _ in reader.found}
    return (
        own
        and not any(name.startswith("on") or name in {"style", "autofocus"} for name in names)
        and tags.isdisjoint({"img", "iframe", "object", "embed", "base", "style"})
        and links <= {"/", "#"}
        and "60481729" not in page.words
    )


def test_arguments_and_tracebacks_are_text(fresh: House) -> None:
    """What a message holds, or says when it fails, is shown as text, on each page that shows it."""
    id = fresh.app.tasks["add"].send(" ".join(TRICKS), {text: [text] for text in TRICKS}).id
    waiting = fresh.owner.get(f"/message?id={id}")
    burst(fresh.app)

    pages = [fresh.owner.get(path) for path in (f"/message?id={id}", "/dead", "/queue?name=default&place=dead")]

    assert all(page.status == 200 and _is_harmless(page) for page in [waiting, *pages])
    assert "\x1b" not in waiting.text
    assert "\x00" not in pages[0].text


@pytest.mark.parametrize(
    "path",
    ["/?find={}", "/queue?name={}", "/queue?name=default&filter={}", "/queue?name=default&cursor={}", "/message?id={}"],
)
def test_addresses_are_text(house: House, path: str) -> None:
    """What an address says is shown as text, or refused."""
    pages = [house.owner.get(path.format(quote(text))) for text in TRICKS]

    assert {page.status for page in pages} <= {200, 400, 404}
    assert all(map(_is_harmless, pages))


def test_odd_names_of_queues(house: House) -> None:
    """A name that no queue can have is refused, and does not become a path."""
    names = ["a/b", "../etc", "größe", "a b", "a\nb", "x" * 500, "%00", "default'--"]

    pages = [house.owner.get(f"/queue?name={quote(name)}") for name in names]

    assert {page.status for page in pages} == {400}
    assert all("cannot name a queue" in page.words for page in pages)


def test_reason_of_a_pause_is_text(fresh: House) -> None:
    """What an operator writes is shown as text to the others."""
    page = fresh.owner.post("/queue/pause", page="/queue?name=default", name="default", why=SCRIPT)

    assert html.escape(SCRIPT) in page.text
    assert _is_harmless(page)


def test_cookie_of_what_was_done_is_text(house: House) -> None:
    """Another program of this machine may set that cookie; it is text, and not long."""
    browser = Browser(house.made)
    browser.cookies = house.owner.cookies | {"queuekit_said": "%3Cscript%3Ealert(1)%3C/script%3E" + "x" * 5_000}

    page = browser.get("/")

    assert _is_harmless(page)
    assert page.text.count("x" * 900) == 1
    assert "x" * 1_100 not in page.text


@pytest.mark.parametrize("path", ["/", "/login", "/message?id=x", "/nothing", "/static/live.js"])
def test_pages_run_no_other_scripts(house: House, path: str) -> None:
    """Each answer forbids scripts but its own, frames, and guesses of its kind; no nonce is used twice."""
    first, second = house.owner.get(path).headers, house.owner.get(path).headers

    assert first["content-security-policy"].startswith("default-src 'none'; script-src 'nonce-")
    assert "unsafe" not in first["content-security-policy"]
    assert "frame-ancestors 'none'" in first["content-security-policy"]
    assert first["content-security-policy"] != second["content-security-policy"]
    assert (first["x-content-type-options"], first["x-frame-options"]) == ("nosniff", "DENY")
    assert first["referrer-policy"] == "same-origin"


def test_pages_are_kept_nowhere(house: House) -> None:
    """No proxy and no back button shows a page to somebody else."""
    assert house.owner.get("/").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/static/../web.py", "/static/..%2fweb.py", "/static//etc/passwd", "/static/"])
def test_static_files_are_ours(house: House, path: str) -> None:
    """The folder of scripts and styles leads nowhere else."""
    assert house.stranger().get(path).status == 404


# -- what must not be seen


def test_secret_arguments_stay(fresh: House) -> None:
    """An argument that is marked never leaves the server, on whatever page."""
    id = fresh.app.tasks["add"].send("seen", card="4711-0815").id
    before = fresh.owner.get(f"/message?id={id}")
    burst(fresh.app)

    pages = [before, *map(fresh.owner.get, (f"/message?id={id}", "/dead", "/queue?name=default&place=dead"))]

    assert "seen" in before.text
    assert not any("4711" in page.text for page in pages)


def test_secret_defaults_stay() -> None:
    """The default of a marked parameter, or of one named in ``redact``, is shown on no page of tasks."""
    app = make_app(redact=["pin"])

    @app.task(name="pay")
    def pay(order: int = 7, pin: str = "4711", card: Annotated[str, Secret] = "4711-0815") -> None: ...

    pages = [_opened(app).get(path) for path in ("/tasks", "/task?name=pay")]

    assert all("order: int = 7" in page.words and "4711" not in page.text for page in pages)
    app.close()


def test_default_that_cannot_be_shown() -> None:
    """A default whose ``repr`` fails takes no page of tasks down."""

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    app = make_app()
    odd = Odd()

    @app.task(name="odd")
    def take(value: Any = odd) -> None: ...

    pages = [_opened(app).get(path) for path in ("/tasks", "/task?name=odd")]

    assert all(page.status == 200 and "<Odd>" in page.words.replace("&lt;", "<") for page in pages)
    app.close()


def _opened(app: Queuekit) -> Browser:
    """Return the browser of somebody who may look at *app*."""
    from queuekit_dashboard import dashboard
    from queuekit_dashboard.access import Access

    return Browser(dashboard(app, access=lambda _: Access("ann")))


def test_faults_of_ours_tell_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in the dashboard is logged, and its page has neither traceback nor text of it."""

    def broken(_: Any) -> Any:
        raise RuntimeError("the password is 4711")

    monkeypatch.setattr("queuekit_dashboard.figures.Figures.look", broken)

    page = house.owner.get("/")

    assert page.status == 500
    assert "4711" not in page.text
    assert "the password is 4711" in caplog.text


# -- what is too much


def test_large_form_is_refused(house: House) -> None:
    """A form of more than a megabyte is not read to its end."""
    headers = {"origin": house.owner.origin, "content_type": "application/x-www-form-urlencoded"}

    answer = house.owner.ask("POST", "/queue/purge", body=b"x" * 1_100_000, headers=headers)

    assert answer.status == 413


def test_form_of_many_fields_is_refused(house: House) -> None:
    """So is one of more than a thousand fields."""
    headers = {"origin": house.owner.origin, "content_type": "application/x-www-form-urlencoded"}

    answer = house.owner.ask("POST", "/queue/purge", body=b"a=1&" * 5_000, headers=headers)

    assert answer.status == 413


@pytest.mark.parametrize("value", ["x" * 500_000, ["y"] * 9_000, 10**30], ids=["text", "list", "number"])
def test_large_values_are_cut(fresh: House, value: Any) -> None:
    """A page does not grow with its message, and shows large integers exactly."""
    id = fresh.app.tasks["add"].send(value).id

    page = fresh.owner.get(f"/message?id={id}")

    assert len(page.text) < 60_000
    assert ("more characters" in page.text) is not isinstance(value, int)
    assert isinstance(value, int) is (str(10**30) in page.text)


# -- users with passwords


@functools.cache
def _hashed(password: str) -> str:
    from queuekit_dashboard.access import hash_password

    return hash_password(password)


@pytest.fixture
def guarded(house: House) -> Callable[[str], Browser]:
    """Return browsers of somebody with that password."""
    return _guarded(house)


def _guarded(house: House) -> Callable[[str], Browser]:
    from queuekit_dashboard.access import Users
    from queuekit_dashboard.web import make

    users = Users([f"ann:act:{_hashed('right')}", f"bob:read:{_hashed('also')}"])
    made = make(house.app, access=users, hosts=None, live="poll", moment=PATIENCE)

    def browser(credentials: str) -> Browser:
        found = Browser(made)
        found.headers["authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        return found

    return browser


@pytest.mark.parametrize("credentials", ["ann:wrong", "ann", "nobody:right", "ann:right:"])
def test_wrong_password_opens_nothing(guarded: Callable[[str], Browser], credentials: str) -> None:
    """Only a user with the right password comes in; a browser is told to ask for it."""
    answer = guarded(credentials).get("/")

    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize("header", ["", "Basic", "Basic !!!", "Bearer right", "Basic /w=="])
def test_odd_credentials_open_nothing(guarded: Callable[[str], Browser], header: str) -> None:
    """Headers that cannot be read are those of nobody."""
    browser = guarded("")
    browser.headers["authorization"] = header

    assert browser.get("/").status == 401


def test_wrong_passwords_hold_nobody_up(guarded: Callable[[str], Browser], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wrong passwords wait to be checked, which is slow on purpose, who is logged in sees pages."""
    from queuekit_dashboard.access import Users

    ann, eve, over = guarded("ann:right"), guarded("ann:wrong"), threading.Event()
    assert ann.get("/tasks").status == 200
    monkeypatch.setattr(Users, "_check", lambda *_: over.wait(PATIENCE) and None)

    async def asked_together() -> tuple[Answer, list[Answer]]:
        waiting = [asyncio.create_task(eve.asking("GET", "/")) for _ in range(50)]
        try:
            page = await asyncio.wait_for(ann.asking("GET", "/tasks"), PATIENCE)
        finally:
            over.set()
        return page, await asyncio.gather(*waiting)

    page, refused = asyncio.run(asked_together())

    assert page.status == 200
    assert {answer.status for answer in refused} == {401}


def test_user_acts_under_their_name(fresh: House) -> None:
    """The log of actions names the user."""
    _guarded(fresh)("ann:right").post("/queue/purge", page="/queue?name=default", **PURGE)

    (action,) = Admin(fresh.app).actions()
    assert (action.what, action.by, action.count) == ("purge --place ready", "ann", 1)


def test_reader_cannot_act(house: House, guarded: Callable[[str], Browser]) -> None:
    """A user who may read sees pages, and changes nothing, form or not."""
    reader = guarded("bob:also")

    answer = purge(reader, csrf=reader.token(), origin=reader.origin)

    assert reader.get("/").status == 200
    assert answer.status == 403
    assert is_kept(house)


@pytest.mark.parametrize("line", ["ann", "ann:act", "ann:admin:scrypt.00.00", "ann:act:plain", ":act:scrypt.00.00"])
def test_user_that_cannot_be_read(line: str) -> None:
    """A user that is not written as it must be is an error at the start, which shows no hash."""
    from queuekit_dashboard.access import Users

    with pytest.raises(ConfigError, match="is not written as name:role:hash"):
        Users([line])


def test_user_is_written_once() -> None:
    """Two lines for one name, e.g. on the command line and in the settings, do not leave the role to chance."""
    from queuekit_dashboard.access import Users

    with pytest.raises(ConfigError, match="'ann' of the dashboard is written twice"):
        Users(["ann:read:scrypt.00.00", "ann:act:scrypt.00.00"])


@pytest.mark.parametrize("line", ["4711", "scrypt.4711.4711"])
def test_password_in_the_place_of_a_user_is_not_shown(line: str) -> None:
    """What is no user may be a password or a hash, so its text is no part of the error."""
    from queuekit_dashboard.access import Users

    with pytest.raises(ConfigError) as caught:
        Users([line])

    assert "4711" not in "".join(caught.value.lines())


@pytest.mark.parametrize("path", ["/message/retry", "/message/drop"])
def test_queue_of_a_dead_letter_is_checked(house: House, path: str) -> None:
    """A form that names what cannot be a queue is refused before a broker is asked."""
    page = house.owner.post(path, page="/queue?name=default", id="x", queue="a/b", sure="yes")

    assert page.status == 400
    assert "cannot name a queue" in page.words


def test_access_of_an_application(house: House) -> None:
    """An application that mounts it says who asks, also from a coroutine; what is no answer refuses."""
    from starlette.requests import Request

    from queuekit_dashboard import dashboard
    from queuekit_dashboard.access import Access

    async def who(request: Request) -> Any:
        name = request.headers.get("x-user")
        return Access(name, "read") if name else "anybody"

    browser = Browser(dashboard(house.app, access=who), origin="https://jobs.example")

    assert browser.get("/").status == 403
    assert browser.get("/", x_user="eve").words.endswith("eve, who may look")


# -- the command


def test_command_refuses_other_machines_without_users(tmp_path: Path) -> None:
    """On an address that others reach, it does not start without users, and says what to do."""
    write(tmp_path, {"tasks.py": "from queuekit import Queuekit\napp = Queuekit(broker='sqlite:///jobs.db')\n"})

    done = queuekit("--app", "tasks:app", "dashboard", "--host", "0.0.0.0", folder=tmp_path)  # noqa: S104 - it refuses

    assert done.returncode == 3
    assert "0.0.0.0 can be reached from other machines, and the dashboard has no users" in done.stderr
    assert "queuekit dashboard --hash" in done.stderr


def test_command_prints_the_hash_of_a_password(tmp_path: Path) -> None:
    """The hash is of the password that was typed, and lets its user in."""
    from queuekit_dashboard.access import Users

    write(tmp_path, {"tasks.py": "from queuekit import Queuekit\napp = Queuekit(broker='sqlite:///jobs.db')\n"})

    done = queuekit("--app", "tasks:app", "dashboard", "--hash", folder=tmp_path, stdin="right\nright\n")

    hashed = done.stdout.strip().splitlines()[-1]
    assert re.fullmatch(r"scrypt\.[0-9a-f]{32}\.[0-9a-f]{128}", hashed)
    assert isinstance(Users([f"ann:act:{hashed}"]), Users)
