"""A pool of connections: bounded, fork-safe, rid of what is broken, and interruptible."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from queuekit.errors import UnavailableError
from queuekit.pool import Pool
from queuekit.timelimit import time_limit
from queuekit_testing.processes import run_in_fork
from support.waiting import PATIENCE, wait_until


@attrs.define(eq=False)
class Connection:
    """A connection that knows whether it is open."""

    number: int
    is_open: bool = True
    is_stale: bool = False


class Server:
    """Makes connections, and keeps all that it has made."""

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.fault: Exception | None = None

    def open(self) -> Connection:
        """Return a new connection."""
        if self.fault is not None:
            raise self.fault
        self.made.append(Connection(len(self.made)))
        return self.made[-1]

    def close(self, connection: Connection) -> None:
        """Close one."""
        connection.is_open = False

    def open_ones(self) -> list[int]:
        """Return the numbers of the open connections."""
        return [each.number for each in self.made if each.is_open]


@pytest.fixture
def server() -> Server:
    """Return a server without connections."""
    return Server()


def pool_of(server: Server, *, size: int = 2, timeout: float = PATIENCE) -> Pool[Connection]:
    """Return a pool of connections to *server*."""
    return Pool(
        server.open,
        close=server.close,
        size=size,
        timeout=timeout,
        to="example://host",
        is_stale=lambda connection: connection.is_stale,
    )


@pytest.fixture
def waiters() -> Iterator[Callable[[Callable[[], object]], "Waiter"]]:
    """Return what starts threads, which are joined in the end."""
    started: list[Waiter] = []

    def start(call: Callable[[], object]) -> Waiter:
        started.append(Waiter(call))
        return started[-1]

    yield start
    for each in started:
        each.thread.join(PATIENCE)


class Waiter:
    """A thread that calls, and keeps what came of it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.outcome: Any = None
        self.thread = threading.Thread(target=self._run, args=(call,))
        self.thread.start()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            self.outcome = call()
        except UnavailableError as error:
            self.outcome = error


def take(pool: Pool[Connection]) -> int:
    """Borrow a connection and return its number."""
    with pool.lend() as connection:
        return connection.number


def is_waited_on(pool: Pool[Connection]) -> bool:
    """Return whether a thread waits for a connection."""
    changed: Any = pool._changed
    return bool(changed._waiters)


def test_keeps_a_connection_for_reuse(server: Server) -> None:
    """One that came back is lent again."""
    pool = pool_of(server)

    assert [take(pool), take(pool)] == [0, 0]


def test_opens_nothing_at_first(server: Server) -> None:
    """A pool opens its connections when they are asked for."""
    pool_of(server)

    assert server.made == []


def test_lends_what_came_back_last(server: Server) -> None:
    """The most recently used connection is lent first, so that the others may grow old and be noticed."""
    pool = pool_of(server)
    with pool.lend(), pool.lend():
        pass

    assert take(pool) == 0


def test_closes_what_an_error_has_come_over(server: Server) -> None:
    """An answer may still be on its way to a connection whose block raised, so nobody gets it again."""
    pool = pool_of(server)

    with pytest.raises(ValueError, match="mine"), pool.lend():
        raise ValueError("mine")

    assert server.open_ones() == []
    assert take(pool) == 1


@pytest.mark.parametrize(
    ("error", "left"), [(ValueError("mine"), [1]), (ConnectionResetError(), []), (UnavailableError("down"), [])]
)
def test_closes_idle_ones_with_a_broken_one(server: Server, error: Exception, left: list[int]) -> None:
    """Where a connection broke, the idle ones have probably broken as well; any other error tells nothing of them."""
    pool = pool_of(server)
    with pool.lend(), pool.lend():
        pass

    with pytest.raises(type(error)), pool.lend():
        raise error

    assert server.open_ones() == left


def test_closes_what_the_server_has_closed(server: Server) -> None:
    """A stale connection is replaced before it is lent."""
    pool = pool_of(server)
    take(pool)
    server.made[0].is_stale = True

    assert take(pool) == 1
    assert server.open_ones() == [1]


def test_closes_what_it_cannot_ask(server: Server) -> None:
    """A connection whose state cannot be told is not left open, in nobody's hands."""

    def fail(_: Connection) -> bool:
        raise ValueError("closed file")

    pool = Pool(server.open, close=server.close, size=1, timeout=PATIENCE, to="example://host", is_stale=fail)
    take(pool)

    with pytest.raises(ValueError, match="closed file"):
        take(pool)

    assert server.open_ones() == []


def test_frees_its_place_if_none_can_be_opened(server: Server) -> None:
    """A connection that could not be opened takes no place."""
    pool = pool_of(server, size=1)
    server.fault = UnavailableError("down")
    for _ in range(3):
        with pytest.raises(UnavailableError, match="down"):
            take(pool)

    server.fault = None

    assert take(pool) == 0


def test_waits_for_a_connection(server: Server, waiters: Callable[[Callable[[], object]], Waiter]) -> None:
    """If all are in use, the next caller gets the first that comes back; there are never more."""
    pool = pool_of(server, size=1)
    with pool.lend():
        waiter = waiters(lambda: take(pool))
        wait_until(lambda: is_waited_on(pool), "a thread waits")
        early = waiter.outcome

    wait_until(lambda: waiter.outcome is not None, "the thread got a connection")
    assert (early, waiter.outcome, len(server.made)) == (None, 0, 1)


def test_names_what_is_used_up(server: Server) -> None:
    """A caller that waits in vain learns what is in use, and where."""
    pool = pool_of(server, size=1, timeout=0.01)

    with (
        pool.lend(),
        pytest.raises(UnavailableError, match="all 1 connections to example://host are in use") as caught,
        pool.lend(),
    ):
        pass

    assert caught.value.passing


def test_waits_no_longer_than_its_caller_can(server: Server) -> None:
    """The time that a caller has left ends its wait, long before the pool's own timeout."""
    pool = pool_of(server, size=1, timeout=10 * PATIENCE)

    with pool.lend(), time_limit(0.01), pytest.raises(UnavailableError, match="in use"), pool.lend():
        pass


def test_ends_waits_on_an_interrupt(server: Server, waiters: Callable[[Callable[[], object]], Waiter]) -> None:
    """Whoever waits at that moment gets an error; later callers wait as before."""
    pool = pool_of(server, size=1)
    with pool.lend():
        waiter = waiters(lambda: take(pool))
        wait_until(lambda: is_waited_on(pool), "a thread waits")
        pool.interrupt()
        wait_until(lambda: waiter.outcome is not None, "the wait has ended")

    assert "interrupted" in str(waiter.outcome)
    assert take(pool) == 0


def test_closes_lent_ones_when_they_come_back(server: Server) -> None:
    """A closed pool keeps nothing, and can be used again."""
    pool = pool_of(server)
    with pool.lend():
        take(pool)
        pool.close()
        lent = server.open_ones()

    pool.close()

    assert (lent, server.open_ones()) == ([0], [])
    assert take(pool) == 2


def test_bears_with_errors_of_closing(server: Server) -> None:
    """A connection that cannot be closed is as good as closed."""

    def fail(_: Connection) -> None:
        raise OSError("gone")

    pool = Pool(server.open, close=fail, size=1, timeout=PATIENCE, to="example://host")
    take(pool)
    pool.close()

    assert take(pool) == 1


def test_refuses_a_size_of_none(server: Server) -> None:
    """A pool of no connections could never lend one."""
    with pytest.raises(ValueError, match="at least one"):
        pool_of(server, size=0)


def test_gives_a_fork_nothing_of_its_parent(server: Server) -> None:
    """A fork opens connections of its own, and closes none of its parent's: neither idle ones nor those lent."""
    pool = pool_of(server, size=2)
    with pool.lend():
        take(pool)

        def in_child() -> None:
            assert [take(pool), take(pool)] == [2, 2]
            with pool.lend(), pool.lend():
                pass
            pool.close()
            assert server.open_ones() == [0, 1]

        assert run_in_fork(in_child) == 0

    assert [take(pool), len(server.made)] == [0, 2]


def test_leaves_alone_what_was_lent_at_the_fork(server: Server) -> None:
    """A fork in the middle of a block gives nothing back to its own pool when the block ends."""
    pool = pool_of(server, size=1)

    def in_child() -> None:
        lend.__exit__(None, None, None)
        assert take(pool) == 1
        assert server.open_ones() == [0, 1]

    lend = pool.lend()
    lend.__enter__()
    status = run_in_fork(in_child)
    lend.__exit__(None, None, None)

    assert status == 0
    assert take(pool) == 0
