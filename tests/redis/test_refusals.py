"""What is said of a server that refuses, and whether waiting may mend that."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from redis import exceptions

from queuekit.errors import UnavailableError
from queuekit.urls import EngineURL
from queuekit_redis.broker import RedisBroker
from queuekit_redis.failures import Failures

STAYING = {
    "password": exceptions.AuthenticationError("WRONGPASS invalid username-password pair"),
    "rights": exceptions.NoPermissionError("this user has no permissions"),
    "old": exceptions.ResponseError("unknown command 'LMOVE'"),
    "database": exceptions.ResponseError("DB index is out of range"),
    "keys": exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
    "cluster": exceptions.ResponseError("MOVED 3999 127.0.0.1:6381"),
    "certificate": exceptions.ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"),
    "socket": exceptions.ConnectionError("Error 13 connecting to unix:/run/redis.sock. Permission denied."),
}
PASSING = {
    "gone": exceptions.ConnectionError("Error 111 connecting to redis:6379. Connection refused."),
    "unknown-host": exceptions.ConnectionError("Error -2 connecting to redis:6379. Name or service not known."),
    "slow": exceptions.TimeoutError("Timeout reading from socket"),
    "loading": exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
    "replica": exceptions.ReadOnlyError("You can't write against a read only replica."),
    "full": exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    "many": exceptions.ConnectionError("max number of clients reached"),
}
OTHERS = {
    "http": (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "is not a Redis server"),
    "mail": (b"220 mail.example.com ESMTP\r\n", "is not a Redis server"),
    "imap": (b"* OK ready\r\n", "is not a Redis server"),
    "tls": (b"\x15\x03\x03\x00\x02\x02\x46", "Write rediss://"),
}
"""What others answer, and what is said of them."""


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Give the port of a server that answers whatever it is told with *answer*."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    link, _ = server.accept()
                    with link, contextlib.suppress(OSError):
                        link.recv(4096)
                        link.sendall(answer)
                        link.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("error", STAYING.values(), ids=STAYING)
def test_what_only_a_person_can_mend_is_not_waited_for(error: Exception) -> None:
    """It is not passing, and says what to do."""
    made = Failures(EngineURL.parse("redis://redis/0"), signs_in=True).of(error)

    assert (made.passing, bool(made.fix)) == (False, True)


@pytest.mark.parametrize("error", PASSING.values(), ids=PASSING)
def test_what_may_mend_itself_is_waited_for(error: Exception) -> None:
    """A server may start, a name may be found, memory may be freed."""
    assert Failures(EngineURL.parse("redis://redis/0"), signs_in=True).of(error).passing


def test_slots_of_a_cluster_move() -> None:
    """Who follows a Cluster tries again."""
    error = exceptions.ResponseError("MOVED 3999 127.0.0.1:6381")

    assert Failures(EngineURL.parse("redis+cluster://redis/0"), signs_in=True).of(error).passing


@pytest.mark.parametrize(("answer", "said"), OTHERS.values(), ids=OTHERS)
def test_a_server_that_is_no_redis_is_called_so(answer: bytes, said: str, connect: Callable[..., RedisBroker]) -> None:
    """What answers in another protocol is not said to have refused a command."""
    with answering(answer) as port:
        broker = connect(f"redis://127.0.0.1:{port}/0")

        with pytest.raises(UnavailableError, match=said) as caught:
            broker.queues()
        broker.close()

    assert not caught.value.passing


def test_a_server_without_tls_is_called_so(connect: Callable[..., RedisBroker]) -> None:
    """A port that answers TLS with something else is told apart from one that nobody listens on."""
    with answering(b"-ERR unknown command\r\n") as port:
        broker = connect(f"rediss://127.0.0.1:{port}/0")

        with pytest.raises(UnavailableError, match="does not answer to TLS") as caught:
            broker.queues()
        broker.close()

    assert not caught.value.passing
