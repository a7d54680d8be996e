"""URLs of engines: every part found, and the password never shown, not even by a mistake in the URL."""

import pickle
import traceback
from pathlib import Path

import pytest

from queuekit.errors import ConfigError
from queuekit.urls import EngineURL, is_secret, mask


def test_takes_a_url_apart() -> None:
    """Scheme, user, password, hosts, path and query are found and percent-decoded."""
    url = EngineURL.parse("MongoDB+srv://us%40er:p%2Fw@a:1,b:2/my%20db?w=majority&x=")

    assert (url.scheme, url.username, url.password) == ("mongodb+srv", "us@er", "p/w")
    assert (url.hosts, url.path, url.query) == (("a:1", "b:2"), "/my db", {"w": "majority", "x": ""})


@pytest.mark.parametrize(
    ("raw", "hosts", "path"),
    [
        pytest.param("memory://", (), "", id="bare"),
        pytest.param("sqlite:///a.db", (), "/a.db", id="relative-file"),
        pytest.param("sqlite:////var/a@b.db", (), "//var/a@b.db", id="absolute-file"),
        pytest.param("redis://[::1]:6379/0", ("[::1]:6379",), "/0", id="ipv6"),
        pytest.param("redis://:6379", (":6379",), "", id="port-only"),
        pytest.param("sqs://eu-west-1/shop", ("eu-west-1",), "/shop", id="region"),
    ],
)
def test_keeps_hosts_and_path(raw: str, hosts: tuple[str, ...], path: str) -> None:
    """Files have no host; several hosts and addresses in brackets stay as they are."""
    url = EngineURL.parse(raw)

    assert (url.hosts, url.path) == (hosts, path)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("", id="empty"),
        pytest.param("localhost:6379", id="host"),
        pytest.param("user:hunter2@localhost", id="credentials"),
        pytest.param("my_scheme://host", id="underscore"),
        pytest.param("redis:/user:hunter2@localhost", id="one-slash"),
        pytest.param("my_scheme://user:hunter2@localhost", id="bad-scheme-with-password"),
    ],
)
def test_refuses_a_url_without_scheme(raw: str) -> None:
    """The error names the setting, shows the value without its password, and says what to write."""
    with pytest.raises(ConfigError, match="broker has no scheme") as caught:
        EngineURL.parse(raw, setting="broker")

    assert "redis://host/0" in caught.value.fix
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("redis://:hunt/er2@host/0", id="slash"),
        pytest.param("redis://user:hunt?er2@host/0", id="question-mark"),
        pytest.param("redis://user:hunt#er2@host/0", id="hash"),
        pytest.param("redis://:12/er2@host/0", id="digits-then-slash"),
        pytest.param("redis://user:er2@[::1/0", id="open-bracket"),
        pytest.param("redis://user:/er2@host/0", id="slash-first"),
        pytest.param("mongodb://user:123/er2@host/0", id="digits-as-a-port"),
        pytest.param("mongodb://user:123?er2@host/0", id="digits-before-a-query"),
        pytest.param("redis:///er2@host/0", id="three-slashes"),
    ],
)
def test_refuses_a_password_that_splits_the_url(raw: str) -> None:
    """A raw ``/`` and the like in the password is an error that shows no part of it, not even in its traceback."""
    with pytest.raises(ConfigError, match="hosts of the URL cannot be read") as caught:
        EngineURL.parse(raw, setting="broker")

    shown = "".join(traceback.format_exception(caught.value))
    assert "%2F" in caught.value.fix
    assert "er2" not in shown.replace(raw, "")
    assert caught.value.where.endswith('"') and "***@" in caught.value.where  # noqa: PT018 - one line of text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        pytest.param("redis://h/0", "redis://h/0", id="nothing-to-hide"),
        pytest.param("redis://:pw@h/0", "redis://:***@h/0", id="password"),
        pytest.param("redis://u:pw@h/0", "redis://u:***@h/0", id="user"),
        pytest.param("redis://u:p@w:x@h/0", "redis://u:***@h/0", id="at-and-colon"),
        pytest.param("redis://u@d:pw@h/0", "redis://***@h/0", id="at-in-user"),
        pytest.param("redis://u:p/w@h/0", "redis://u:***@h/0", id="slash"),
        pytest.param("redis://u:p\nw@h/0", "redis://u:***@h/0", id="newline"),
        pytest.param("redis://pw@h:6379/0", "redis://***@h:6379/0", id="a-word-alone"),
        pytest.param("redis://u:/pw@h", "redis://u:***@h", id="slash-first"),
        pytest.param("redis:///pw:x@h", "redis://***@h", id="three-slashes"),
        pytest.param("redis//u:pw@h", "***@h", id="no-colon"),
        pytest.param("redis:/u:pw@h", "redis:***@h", id="one-slash"),
        pytest.param("redis://h?p%61ssword=pw", "redis://h?p%61ssword=***", id="quoted-name"),
        pytest.param("redis://h?password=p&w&x=1", "redis://h?password=***&x=1", id="raw-ampersand"),
        pytest.param("redis+unix:///run/a@b.sock", "redis+unix:///run/a@b.sock", id="socket"),
        pytest.param("mongodb://u:pw@a:1,b:2/d", "mongodb://u:***@a:1,b:2/d", id="hosts"),
        pytest.param("redis://h?password=pw&x=1", "redis://h?password=***&x=1", id="option"),
        pytest.param("redis://h?x=1&ssl_keyfile_password=p#w", "redis://h?x=1&ssl_keyfile_password=***", id="hash"),
        pytest.param("sqs://r?aws-secret-access-key=k", "sqs://r?aws-secret-access-key=***", id="dashes"),
        pytest.param("m://h?authMechanismProperties=T:k", "m://h?authMechanismProperties=***", id="session-token"),
        pytest.param("u:pw@h", "u:***@h", id="no-scheme"),
        pytest.param("sqlite:///C:/a@b.db", "sqlite:///C:/a@b.db", id="file"),
    ],
)
def test_masks_passwords(raw: str, shown: str) -> None:
    """Passwords are replaced in the authority and in the query; what is no secret stays readable."""
    assert mask(raw) == shown


def test_shows_itself_without_password() -> None:
    """Neither ``str`` nor ``repr`` of a URL holds a secret, and a copy from another process is equal."""
    url = EngineURL.parse("redis://user:hunter2@host/0?token=s3cret")

    shown = f"{url} {url!r}"

    assert "hunter2" not in shown
    assert "s3cret" not in shown
    assert pickle.loads(pickle.dumps(url)) == url  # noqa: S301 - our own bytes


def test_shows_no_word_that_may_be_a_password() -> None:
    """A word alone before the host is a user or, in other projects, a password: not shown, nor in foreign texts."""
    url = EngineURL.parse("redis://hunter2@host/0")

    shown = f"{url} {url!r} {url.hide('no user hunter2')}"

    assert "hunter2" not in shown
    assert url.username == "hunter2"


def test_hides_its_secrets_in_foreign_texts() -> None:
    """The text of a client library's error loses the URL's password, however it quotes it."""
    url = EngineURL.parse("redis://user:hunt%21er2@host/0?token=s3cret")

    hidden = url.hide(f"cannot connect to {url.raw}: password 'hunt!er2', token s3cret")

    assert hidden == "cannot connect to redis://user:***@host/0?token=***: password '***', token ***"


@pytest.mark.parametrize(
    ("name", "secret"),
    [("password", True), ("SSL_KEY_PASSWORD", True), ("apiKey", True), ("access-key", True), ("key_prefix", False)],
)
def test_knows_secret_names(name: str, secret: bool) -> None:  # noqa: FBT001 - a row of the table
    """A setting is secret by the words in its name."""
    assert is_secret(name) is secret


@pytest.mark.parametrize(
    ("raw", "placed"),
    [
        ("sqlite:///jobs.db", "sqlite:////srv/jobs.db"),
        ("sqlite:///./a/../jobs.db?sync=full", "sqlite:////srv/jobs.db?sync=full"),
        ("SQLITE:///a%20b.db", "SQLITE:////srv/a%20b.db"),
        ("sqlite:////var/jobs.db", "sqlite:////var/jobs.db"),
        ("sqlite:///~/jobs.db", "sqlite:///~/jobs.db"),
        ("redis://h/0", "redis://h/0"),
    ],
)
def test_a_relative_file_begins_at_a_folder(raw: str, placed: str) -> None:
    """Only the relative path of a file is changed, and names the same file when it is read again."""
    url = EngineURL.parse(raw).placed(Path("/srv"))

    assert str(url) == placed
    assert EngineURL.parse(placed).path == url.path
