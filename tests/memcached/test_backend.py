"""What the suite does not ask: hostile keys, limits, several servers, restarts, full and foreign servers."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from queuekit.backend import Condition, Join, Record
from queuekit.errors import CapabilityError, ConfigError, TooLargeError, UnavailableError
from queuekit.timelimit import time_limit
from queuekit.urls import EngineURL
from queuekit_testing.kit import unique_name
from support.memcached import Memcached, MemcachedBackend, MemcachedOptions, shared
from support.proxy import lossy_proxy
from support.silence import silent_port
from support.waiting import UNHURRIED, error_of

Connect = Callable[..., MemcachedBackend]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return what makes backends, which are closed in the end; by default with keys of their own on a shared server."""
    made: list[MemcachedBackend] = []

    def make(url: str | None = None, **options: Any) -> MemcachedBackend:
        options = {"prefix": unique_name("t"), "timeout": UNHURRIED, "connect_timeout": UNHURRIED, **options}
        made.append(MemcachedBackend(EngineURL.parse(url or shared().url), options=MemcachedOptions(**options)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Memcached]]:
    """Return what starts servers of the test's own, which are stopped in the end."""
    servers: list[Memcached] = []

    def start(*arguments: str, port: int | None = None) -> Memcached:
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        servers.append(Memcached(folder, arguments=arguments, port=port))
        return servers[-1].start()

    yield start
    for server in servers:
        server.stop()


def url_of(*servers: Memcached) -> str:
    """Return the URL of all *servers*."""
    return f"memcache://{','.join(f'127.0.0.1:{server.port}' for server in servers)}"


def record(key: str = "k", body: bytes = b"body", **fields: Any) -> Record:
    """Return a record."""
    return Record(key=key, body=body, **fields)


# -- keys and values


KEYS = {
    "blank": "a b",
    "tab": "a\tb",
    "injection": "a\r\nflush_all\r\nb",
    "null": "\0",
    "del": "\x7f",
    "wide": "\N{LATIN SMALL LETTER E WITH ACUTE}" * 250,
    "wider": "\N{GRINNING FACE}" * 250,
    "long": "x" * 250,
    "percent": "%20",
    "surrogate": "\ud800",
    "empty": "",
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_takes_any_key(connect: Connect, key: str) -> None:
    """A key is data: none ends a command, is too long for the server, or is mistaken for another."""
    backend = connect()
    near = f"{key}~"

    assert backend.put([record(key, b"mine"), record(near, b"near")]) == [True, True]

    assert {name: found.body for name, found in backend.get([key, near]).items()} == {key: b"mine", near: b"near"}
    assert backend.delete([key]) == 1


def test_takes_any_bytes(connect: Connect) -> None:
    """A body that looks like the protocol is a body."""
    backend = connect()
    bodies = [b"\r\nEN\r\n", b"VA 3 c1 t-1\r\nabc\r\n", bytes(range(256)) * 100, b""]
    backend.put([record(f"k{place}", body) for place, body in enumerate(bodies)])

    found = backend.get([f"k{place}" for place in range(len(bodies))])

    assert [found[f"k{place}"].body for place in range(len(bodies))] == bodies


def test_names_the_limit_before_anything_is_written(connect: Connect) -> None:
    """A server would drop the old record with the refused one, so nothing too large is sent to it."""
    backend = connect()
    backend.put([record(body=b"old")])
    most = backend.limits.max_record

    with pytest.raises(TooLargeError, match=f"above the limit of {most:,}"):
        backend.put([record(body=bytes(most + 1))])

    assert backend.get(["k"])["k"].body == b"old"
    assert backend.put([record("x" * 250, bytes(most), error="\0" * 9_000, task="t" * 9_000)]) == [True]


def test_takes_larger_records_where_the_server_does(connect: Connect, start: Callable[..., Memcached]) -> None:
    """``max_item_bytes`` follows the server's ``-I``; one with a lower limit is found out at the first call."""
    server = start("-I", "4m")
    large = connect(server.url, max_item_bytes=4_194_304)

    assert large.put([record(body=bytes(4_000_000))]) == [True]
    error = error_of(
        connect(max_item_bytes=4_194_304).now, UnavailableError, "takes items of up to 1,048,576 bytes (-I)"
    )
    assert not error.passing


def test_refuses_a_member_that_no_item_holds(connect: Connect) -> None:
    """The number of a member is checked before memory is taken for its bit."""
    with pytest.raises(TooLargeError, match="has a member"):
        connect().join("g", 10**15, 10**15 + 1)


def test_says_that_something_else_is_there(connect: Connect) -> None:
    """A value that another program has stored is not taken for a record."""
    backend = connect(prefix="foreign")
    shared().ask("ms foreign:r:k 5\r\n\x01abcd")
    shared().ask("ms foreign:r:other 5\r\nhello")

    with pytest.raises(UnavailableError, match="something that is not a record"):
        backend.get(["k"])
    with pytest.raises(UnavailableError, match="another version of queuekit: layout 104"):
        backend.get(["other"])


def test_cannot_list(connect: Connect) -> None:
    """Memcached does not tell its keys, and the error says so."""
    with pytest.raises(CapabilityError, match="memcache:// cannot list records"):
        connect().scan("")


# -- several servers


def test_keeps_each_key_on_one_server(connect: Connect, start: Callable[..., Memcached]) -> None:
    """Clients agree where a key is, whatever the order of the servers in their URLs; all servers get some."""
    servers = [start() for _ in range(3)]
    prefix = unique_name("t")
    writer, reader = connect(url_of(*servers), prefix=prefix), connect(url_of(*reversed(servers)), prefix=prefix)
    keys = [f"k{number}" for number in range(60)]

    assert writer.put([record(key) for key in keys]) == [True] * 60

    assert set(reader.get(keys)) == set(keys)
    assert all(b"STAT curr_items 0\r\n" not in server.ask("stats") for server in servers)
    assert reader.delete(keys) == 60


def test_fails_for_the_keys_of_a_server_that_is_down(connect: Connect, start: Callable[..., Memcached]) -> None:
    """Nothing moves to another server: calls for its keys fail and name it, those for other keys go on."""
    up, down = start(), start()
    backend = connect(url_of(up, down))
    keys = [f"k{number}" for number in range(20)]
    backend.put([record(key) for key in keys])
    down.stop()
    answers: dict[str, str] = {}
    texts: set[str] = set()
    for key in keys:
        try:
            answers[key] = "there" if backend.get([key]) else "gone"
        except UnavailableError as error:
            answers[key] = "down"
            texts.add(error.what)

    assert set(answers.values()) == {"there", "down"}
    assert all(text.startswith(f"127.0.0.1:{down.port} of {url_of(up, down)} cannot be reached") for text in texts)


# -- restarts and cuts


def test_does_not_take_a_new_version_for_the_old(connect: Connect, start: Callable[..., Memcached]) -> None:
    """The server's own numbers begin anew with a restart; a lock from before is not the lock that has the same one."""
    server = start()
    holder = connect(server.url, prefix="t")
    holder.put([record(body=b"mine")], expect=0)
    held = holder.get(["k"])["k"].version
    server.stop()
    other = start(port=server.port)
    taker = connect(other.url, prefix="t")
    taker.put([record(body=b"theirs")], expect=0)

    answers = [holder.put([record(body=b"mine")], expect=held), holder.delete(["k"], expect=held)]

    taken = holder.get(["k"])["k"]
    assert (answers, taken.body) == ([[False], 0], b"theirs")
    assert held != taken.version


def test_works_on_after_a_restart(connect: Connect, start: Callable[..., Memcached]) -> None:
    """A client finds its connections closed before it uses them, and opens others."""
    server = start()
    backend = connect(server.url)
    backend.put([record()])
    server.stop()
    start(port=server.port)

    assert backend.get(["k"]) == {}
    assert backend.put([record()], condition=Condition.NEWER) == [True]


@pytest.mark.parametrize("how", ["expect", "newer", "join"])
def test_tells_of_an_answer_that_is_lost(connect: Connect, how: str) -> None:
    """A write whose answer is lost is an outage, never a guess; what was done stands, and can be seen."""
    prefix = unique_name("t")
    sure = connect(prefix=prefix)
    with lossy_proxy(shared().port) as proxy:
        backend = connect(f"memcache://127.0.0.1:{proxy.port}", prefix=prefix)
        backend.put([record("other")])
        proxy.drop()

        calls: dict[str, Callable[[], object]] = {
            "expect": lambda: backend.put([record()], expect=0),
            "newer": lambda: backend.put([record()], condition=Condition.NEWER),
            "join": lambda: backend.join("g", 0, 2),
        }
        with pytest.raises(UnavailableError):
            calls[how]()

        again = backend.join_many([Join(group="g", member=0, size=2)])
        assert (again, sure.join("g", 0, 2)) == ([1], (False, 1))
        assert backend.get(["k"]).keys() == sure.get(["k"]).keys()


def test_waits_no_longer_than_its_caller(connect: Connect) -> None:
    """A server that accepts and says nothing costs the time that the caller has, not the plugin's own timeout."""
    with silent_port() as port, time_limit(0.05):
        error_of(connect(f"memcache://127.0.0.1:{port}").now, UnavailableError, "did not answer in time")


def test_is_not_kept_waiting_by_a_trickle(connect: Connect) -> None:
    """A server that sends a byte now and then is given up when the time of the caller is over."""
    done = threading.Event()

    def trickle(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            while not done.wait(0.01):
                try:
                    client.sendall(b"S")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        try:
            with time_limit(0.2):
                error_of(connect(f"memcache://127.0.0.1:{listener.getsockname()[1]}").now, UnavailableError, "in time")
        finally:
            done.set()
            thread.join(UNHURRIED)


# -- odd servers


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not a Memcached server"),
        (b"\x15\x03\x01\x00\x02\x02\x46\r\n", "answers with TLS"),
        (b"x" * 10_000, "is not a Memcached server"),
        (b"STAT version 1.4.39\r\nEND\r\nEND\r\n", "is Memcached 1.4.39"),
        (b"STAT version 1.6.18\r\nSTAT cas_enabled no\r\nEND\r\nEND\r\n", "keeps no versions"),
        (b"CLIENT_ERROR unauthenticated\r\n", "asks for a password"),
    ],
    ids=["http", "tls", "endless", "old", "no-cas", "password"],
)
def test_names_a_server_that_is_none(connect: Connect, answer: bytes, text: str) -> None:
    """What answers in another language, or lacks what the plugin needs, is named, with the fix."""

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.recv(1_000)
            client.sendall(answer)
            client.recv(1_000)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with pytest.raises(UnavailableError, match=text) as caught:
            connect(f"memcache://127.0.0.1:{listener.getsockname()[1]}").now()
        thread.join(UNHURRIED)

    assert not caught.value.passing
    assert caught.value.fix


def test_signs_in(connect: Connect, start: Callable[..., Memcached], tmp_path: Path) -> None:
    """User and password come from the URL, and no error shows the password."""
    words = tmp_path / "words"
    words.write_text("user:sec/ret\n", encoding="ascii")
    server = start("-Y", str(words))
    address = f"127.0.0.1:{server.port}"

    assert connect(f"memcache://user:sec%2Fret@{address}").put([record()]) == [True]
    with pytest.raises(UnavailableError, match="refuses this user or password") as caught:
        connect(f"memcache://user:wrong@{address}").put([record()])
    assert "wrong@" not in str(caught.value)
    with pytest.raises(UnavailableError, match="asks for a password"):
        connect(f"memcache://{address}").put([record()])


def test_speaks_through_a_socket(connect: Connect, start: Callable[..., Memcached], tmp_path: Path) -> None:
    """``memcache+unix`` names a Unix socket."""
    server = start()
    path = tmp_path / "socket"
    second = Memcached(tmp_path, arguments=["-s", str(path)], port=server.port)
    second.answers = path.exists  # type: ignore[method-assign]
    second.start()
    try:
        assert connect(f"memcache+unix://{path}").put([record()]) == [True]
    finally:
        second.stop()


def test_tells_of_evictions(connect: Connect, start: Callable[..., Memcached]) -> None:
    """A full server forgets without a word; ``check`` says so, and what is still there is whole."""
    server = start("-m", "1", "-I", "512k")
    backend = connect(server.url, max_item_bytes=524_288)
    assert backend.check() == []
    keys = [f"k{number}" for number in range(120)]
    for key in keys:
        backend.put([record(key, bytes(100_000))])

    found = backend.get(keys)

    assert 0 < len(found) < len(keys)
    assert all(each.body == bytes(100_000) for each in found.values())
    assert "items that had not expired, to make room" in "".join(backend.check())


def test_tells_that_a_server_is_full(connect: Connect, start: Callable[..., Memcached]) -> None:
    """A server that may not evict refuses: an outage that passes when there is room again."""
    backend = connect(start("-m", "1", "-M", "-I", "512k").url, max_item_bytes=524_288)

    def fill() -> None:
        for number in range(1_000):
            backend.put([record(f"k{number}", bytes(100_000))])

    with pytest.raises(UnavailableError, match="has no memory left") as caught:
        fill()
    assert caught.value.passing


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("memcache://h:99999", "has the port 99999"),
        ("memcache://h/0", "has no databases"),
        ("memcache://user@h", "needs both user and password"),
        ("memcache+unix://h", "names no socket"),
    ],
)
def test_refuses_urls(connect: Connect, url: str, text: str) -> None:
    """A URL that names no server correctly is refused before anything is connected."""
    with pytest.raises(ConfigError, match=text):
        connect(url)


def test_reads_urls(connect: Connect) -> None:
    """Hosts may lack ports, repeat, or be IPv6; without any, the server is on this machine."""
    backend = connect("memcache://B,a:1,[::1]:2,[::1]:2,a:1")

    assert [str(address) for address in backend._target.addresses] == ["::1:2", "a:1", "b:11211"]
    assert [str(address) for address in connect("memcached://")._target.addresses] == ["localhost:11211"]
