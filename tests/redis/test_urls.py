"""URLs and options: which server they mean, and what is said about those that mean none."""

import sys
from random import Random
from subprocess import run
from typing import Any

import pytest

from queuekit.clock import SystemClock
from queuekit.errors import ConfigError
from queuekit.plugins.manager import Plugins
from queuekit.urls import EngineURL
from queuekit_redis.options import RedisOptions
from queuekit_redis.urls import Target, read_target

MADE: dict[str, Any] = {"table": {}, "clock": SystemClock(), "random": Random(1)}
SIGNED: dict[str, Any] = {"username": "u", "password": "p@ss"}


def target(url: str, **options: Any) -> Target:
    """Return what *url* means."""
    return read_target(EngineURL.parse(url), RedisOptions(**options))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", Target(kind="single", addresses=(("localhost", 6379),))),
        ("redis://h", Target(kind="single", addresses=(("h", 6379),))),
        ("redis://h:1/3", Target(kind="single", addresses=(("h", 1),), db=3)),
        ("redis://:p%40ss@h", Target(kind="single", addresses=(("h", 6379),), **{**SIGNED, "username": None})),
        ("redis://u:p%40ss@h", Target(kind="single", addresses=(("h", 6379),), **SIGNED)),
        ("redis://[::1]:7", Target(kind="single", addresses=(("::1", 7),))),
        ("rediss://h/", Target(kind="single", addresses=(("h", 6379),), tls=True)),
        ("redis+unix:///run/r.sock", Target(kind="unix", path="/run/r.sock")),
        (
            "redis+sentinel://a,b:1/jobs/2",
            Target(kind="sentinel", addresses=(("a", 26379), ("b", 1)), service="jobs", db=2),
        ),
        ("redis+cluster://a,b:1", Target(kind="cluster", addresses=(("a", 6379), ("b", 1)))),
    ],
)
def test_url_is_read(url: str, expected: Target) -> None:
    """Each form of a URL names its servers, database and credentials, with the usual ports by default."""
    assert target(url) == expected


def test_database_may_be_an_option() -> None:
    """Where the path does not say the database, the option does."""
    assert target("redis://h", db=4).db == 4
    assert target("redis+unix:///s", db=4).db == 4
    assert target("redis://h/1", db=4).db == 1


def test_user_and_password_may_be_options() -> None:
    """As in the URLs of the client library they may stand in the query, or in the table; the authority comes first."""
    assert target("redis+unix:///s", **SIGNED) == Target(kind="unix", path="/s", **SIGNED)
    assert target("redis://me:p%40ss@h", **{**SIGNED, "password": "other"}) == Target(
        kind="single", addresses=(("h", 6379),), **{**SIGNED, "username": "me"}
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:0",
        "redis://h:65536",
        "redis+sentinel://a,b:71915/jobs",
        "redis+cluster://a:99999999999",
        "redis://a,b",
        "redis://h/zero",
        "redis+unix://h/run/r.sock",
        "redis+unix:///",
        "redis+sentinel://a",
        "redis+sentinel:///jobs",
        "redis+cluster://",
        "redis+cluster://a/1",
    ],
)
def test_url_is_refused(url: str) -> None:
    """A URL that names no server, or no database, is an error with an example of how to write it."""
    with pytest.raises(ConfigError) as caught:
        target(url)

    assert "redis" in caught.value.fix


def test_url_hides_its_password() -> None:
    """A refused URL is shown without its password."""
    with pytest.raises(ConfigError) as caught:
        target("redis://u:secret@h/zero")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+unix", "redis+sentinel", "redis+cluster"])
def test_schemes_are_served(scheme: str) -> None:
    """The installed plugin serves every scheme, as broker and as backend, and opens nothing."""
    urls = {"redis+unix": "redis+unix:///s", "redis+sentinel": "redis+sentinel://h/jobs"}
    url = EngineURL.parse(urls.get(scheme, f"{scheme}://h"))
    plugins = Plugins()

    broker, backend = plugins.make("broker", url, **MADE), plugins.make("backend", url, **MADE)

    assert broker.capabilities.commit is (scheme != "redis+cluster")
    assert (broker.engine_id == backend.engine_id) is True
    assert (broker.engine_id is None) is (scheme == "redis+cluster")


@pytest.mark.parametrize(
    ("url", "table", "said"),
    [
        ("redis://h?key_prefx=a", {}, "key_prefix"),
        ("redis://h", {"max_connection": 3}, "max_connections"),
        ("redis://h?timeout=soon", {}, "duration"),
        ("redis://h?max_connections=0", {}, "max_connections"),
        ("redis://h?max_connections=1", {}, "max_connections"),
        ("redis://h?max_connections=1000000000", {}, "max_connections"),
        ("redis://h?dedup_window=5000000000", {}, "dedup_window"),
        ("redis://h?timeout=5000000000", {}, "timeout"),
        ("redis://h?key_prefix={a}", {}, "key_prefix"),
        ("rediss://h?verify=maybe", {}, "verify"),
    ],
)
def test_options_are_checked(url: str, table: dict[str, object], said: str) -> None:
    """An option that is unknown or wrong is refused before anything is opened, with what was meant."""
    with pytest.raises(ConfigError) as caught:
        Plugins().make("broker", EngineURL.parse(url), **{**MADE, "table": table})

    assert said in str(caught.value)


def test_client_library_is_imported_late() -> None:
    """Loading the plugin imports no client library; making a broker does."""
    script = (
        "import sys; from queuekit.plugins.manager import Plugins; from queuekit.urls import EngineURL\n"
        "plugins = Plugins(); plugins.infos(); before = 'redis' in sys.modules\n"
        "plugins.make('broker', EngineURL.parse('redis://h'), table={}, clock=None, random=None)\n"
        "print(before, 'redis' in sys.modules)"
    )

    done = run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "True"]
