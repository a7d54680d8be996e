"""One deployment and database, as a broker or a backend uses it: the client, collections, deadlines, transactions."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import Context
from functools import partial
from random import Random
from typing import Any, TypeVar

from bson.binary import UUID_SUBTYPE, Binary
from bson.codec_options import DatetimeConversion
from bson.errors import InvalidBSON
from pymongo import IndexModel, MongoClient
from pymongo.change_stream import CollectionChangeStream
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)
from pymongo.read_preferences import ReadPreference
from pymongo.uri_parser import validate_options

from queuekit.errors import bare
from queuekit.layouts import other_layout
from queuekit.timelimit import end_of_time, time_left
from queuekit.urls import EngineURL
from queuekit_mongo.failures import INTERRUPTED, NOT_ALLOWED, OTHER_INDEX, Failures, is_passing
from queuekit_mongo.indexes import INDEXES, in_the_way
from queuekit_mongo.layout import LAYOUT, Doc
from queuekit_mongo.options import PASSTHROUGH, MongoOptions
from queuekit_mongo.replies import Replies, renew
from queuekit_mongo.servertime import ServerTime
from queuekit_mongo.urls import client_url, database_name, engine_id

__all__ = ["Engine"]

T = TypeVar("T")

_TRIES = 5
_UUID_BYTES = 16
_POLL_EVERY = 0.02
"""Seconds between two checks whether there is a server."""
_CONFLICTS = 3
"""Times ``options.timeout`` for which a transaction is tried again while others are in its way."""
_PATIENCE = 1.0
"""Seconds that the server holds back an empty answer of a change stream."""
_abandoned: list[object] = []
"""Clients of a parent process: neither used nor closed by its forks."""


class Engine:
    """Everything that broker and backend do passes through here.

    Args:
        url: Names hosts and database.
        options: How to use them.
        random: Spreads workers over a contested queue.
    """

    def __init__(self, url: EngineURL, *, options: MongoOptions | None, random: Random | None) -> None:
        self.options = options or MongoOptions()
        self.id = engine_id(url, self.options.prefix)
        self.random = random or Random()  # noqa: S311 - a spread of claims, not a secret
        self.failures = Failures(url)
        self.time = ServerTime(self._ask_time)
        self.hello: Doc | None = None
        """What the server said of itself at the first connection; ``None`` before."""
        self.on_set_aside: Callable[[str, str, str], None] | None = None
        """Called with queue, id and reason of each message that is set aside."""
        self._url = url
        self._name = database_name(url)
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._client: MongoClient[Doc] | None = None
        self._session_lock = threading.RLock()
        self._session: ClientSession | None = None
        self._session_id: Any = None

    # -- what it is ----------------------------------------------------------------------------------------------

    @property
    def has_transactions(self) -> bool:
        """Whether there are transactions, as far as is known: before the first connection it is hoped for."""
        return self.options.transactions and self._is_replicated()

    @property
    def has_streams(self) -> bool:
        """Whether there are change streams, as far as is known: one holds a connection, so there has to be another."""
        client = self._client
        alone = client is not None and client.options.pool_options.max_pool_size == 1
        return self.options.change_streams and self._is_replicated() and not alone

    def _is_replicated(self) -> bool:
        hello = self.hello
        return hello is None or "setName" in hello or hello.get("msg") == "isdbgrid"

    # -- collections ---------------------------------------------------------------------------------------------

    @property
    def messages(self) -> Collection[Doc]:
        """Messages, each a document."""
        return self.collection("messages")

    @property
    def queues(self) -> Collection[Doc]:
        """Names of queues that were ever sent to."""
        return self.collection("queues")

    @property
    def records(self) -> Collection[Doc]:
        """Records of the backend."""
        return self.collection("records")

    @property
    def groups(self) -> Collection[Doc]:
        """Groups and their members."""
        return self.collection("groups")

    def collection(self, name: str) -> Collection[Doc]:
        """Return a collection of ours, by its name without the prefix; what is done with it is a reply to wait for."""
        client = self._opened()
        _next_reply(client)
        return self._collection(client, name)

    def watch(self, name: str, changes: Sequence[Doc]) -> CollectionChangeStream[Doc]:
        """Follow what happens to a collection of ours."""
        longest = self._opened().options.pool_options.socket_timeout
        # An empty answer comes before the socket is given up, which would cost a connection each time.
        patience = min(_PATIENCE, longest / 2) if longest else _PATIENCE
        return self.collection(name).watch(changes, max_await_time_ms=int(patience * 1000))

    def database(self) -> Database[Doc]:
        """Return the database."""
        client = self._opened()
        _next_reply(client)
        return client[self._name]

    def _collection(self, client: MongoClient[Doc], name: str) -> Collection[Doc]:
        # Whatever the URL says: a secondary does not know yet what was just claimed or written.
        return client[self._name].get_collection(
            f"{self.options.prefix}_{name}", read_preference=ReadPreference.PRIMARY
        )

    # -- calls ---------------------------------------------------------------------------------------------------

    @contextmanager
    def calls(self, *, times: int = 1) -> Iterator[None]:
        """Turn the client library's errors into ours; each reply may take *times* ``options.timeout`` seconds.

        Raises:
            UnavailableError: The deployment did not answer, or refused.
        """
        try:
            with Replies(times * self.options.timeout):
                yield
        except InvalidBSON as error:
            raise self.failures.of_bytes(error) from bare(error)
        except PyMongoError as error:
            self.time.forget()
            raise self.failures.of(error) from bare(error)

    def insist(self, call: Callable[[], T]) -> T:
        """Return what *call* returns; after a lost connection or primary, call it again: it must bear repetition."""
        for left in range(_TRIES, -1, -1):
            try:
                return call()
            except PyMongoError as error:
                if left == 0 or not is_passing(error):
                    raise
                self.time.forget()
        raise AssertionError("unreachable")

    def in_transaction(self, body: Callable[[ClientSession], T], *, touches_leases: bool) -> T:
        """Run *body*, again and again if need be, until a transaction around it is committed.

        One that *touches_leases* runs in the session that this process's claims name, one at a time. So whoever takes
        the messages of a dead process back can end the transaction that it died in, which would else lock them for as
        long as the server lets a transaction live: a minute.
        """
        if not touches_leases:
            with self._opened().start_session() as session:
                return self._transact(session, body)
        with self._session_lock:
            for left in range(_TRIES, -1, -1):
                try:
                    return self._transact(self._own_session(), body)
                except OperationFailure as error:
                    # Somebody took back a message of ours whose lease had ended, which is nothing to the others.
                    if left == 0 or error.code != INTERRUPTED:
                        raise
        raise AssertionError("unreachable")

    def in_one_transaction(self, body: Callable[[ClientSession], T]) -> T:
        """Run *body* in a transaction, which is not tried again if others are in its way."""

        def once() -> T:
            with self._opened().start_session() as session, session.start_transaction():
                done = body(session)
                renew()  # for the commit
                return done

        return self.insist(once)

    def _transact(self, session: ClientSession, body: Callable[[ClientSession], T]) -> T:
        concern = self._opened().write_concern
        results: list[T] = []

        give_up = time.monotonic() + _CONFLICTS * self.options.timeout

        def run(session: ClientSession) -> None:
            if time.monotonic() > give_up:
                raise ExecutionTimeout("transactions of others are in the way", 50)
            results[:] = [body(session)]
            renew()  # for the commit

        try:
            session.with_transaction(run, write_concern=concern, read_preference=ReadPreference.PRIMARY)
        except WriteConcernError as error:
            if error.code != INTERRUPTED:
                raise
            session.commit_transaction()  # it is committed, but nobody waited for the secondaries
        return results[0]

    def session_id(self) -> object:
        """Return what names this process's session in its claims; ``None`` where there are no transactions."""
        self._opened()
        if not self.has_transactions:
            return None
        if self._session_id is None:
            with self._session_lock:
                self._session_id = self._own_session().session_id["id"]
        return self._session_id

    def kill_sessions(self, ids: Iterable[object]) -> None:
        """End the transactions of other processes' sessions; where that is not allowed, time ends them."""
        # Anything else has been written by nobody of ours, and would keep the server from ending the rest.
        sessions = {
            id for id in ids if isinstance(id, Binary) and id.subtype == UUID_SUBTYPE and len(id) == _UUID_BYTES
        }
        others = [{"id": id} for id in sessions - {self._session_id}]
        if others:
            with suppress(OperationFailure):
                self.database().command("killSessions", others)

    def _own_session(self) -> ClientSession:
        client = self._opened()
        if self._session is None:
            self._session = client.start_session()
        return self._session

    def new_mark(self) -> str:
        """Return text that no other claim or call has."""
        # Not by our own chance: that may be seeded alike in several processes, or copied by a fork.
        return secrets.token_hex(10)

    def close(self) -> None:
        """Close the client; the next call opens another."""
        with self._lock_of_this_process():
            client, self._client = self._client, None
            self._session = self._session_id = None
        if client is not None:
            client.close()

    # -- opening -------------------------------------------------------------------------------------------------

    def _opened(self) -> MongoClient[Doc]:
        client = self._client
        if client is not None and self._pid == os.getpid():
            return client
        with self._turn():
            if self._client is None:
                client = self._open()
                try:
                    _next_reply(client)
                    self.hello = dict(client.admin.command("hello"))
                    self._check_layout(client)
                    self._make_indexes(client)
                except BaseException:
                    client.close()
                    raise
                self._client = client
            return self._client

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the lock, if it can be had in the time that the caller has.

        Raises:
            UnavailableError: Another thread has been trying to connect for as long.
        """
        lock = self._lock_of_this_process()
        if not lock.acquire(timeout=time_left(threading.TIMEOUT_MAX)):
            raise self.failures.of_connecting()
        try:
            if self._client is None and not time_left(1.0):
                raise self.failures.of_connecting()
            yield
        finally:
            lock.release()

    def _lock_of_this_process(self) -> threading.RLock:  # type: ignore[valid-type, unused-ignore]
        """Return the lock; in a child, first leave alone what belongs to the parent."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.RLock()
            _abandoned.extend((self._client, self._session))
            self._client = self._session = self._session_id = None
            self._session_lock = threading.RLock()
            self.time = ServerTime(self._ask_time)
        return self._lock

    def _open(self) -> MongoClient[Doc]:
        milliseconds = int(self.options.timeout * 1000)
        asked = {name.lower() for name in self._url.query}
        ours: dict[str, Any] = {
            "appname": "queuekit",
            "serverselectiontimeoutms": milliseconds,
            "connecttimeoutms": milliseconds,
            "sockettimeoutms": 2 * milliseconds,
            "w": "majority",
        }
        try:
            # A client only warns of a value that it cannot use, and goes on without: without TLS, say.
            validate_options({name: value for name, value in self._url.query.items() if name in PASSTHROUGH})
            return MongoClient(
                client_url(self._url),
                **{name: value for name, value in ours.items() if name not in asked},
                document_class=dict,
                datetime_conversion=DatetimeConversion.DATETIME_MS,
                unicode_decode_error_handler="replace",
                connect=True,  # in the background
            )
        except (ValueError, TypeError, OSError) as error:
            raise self.failures.of_url(error) from None

    def _check_layout(self, client: MongoClient[Doc]) -> None:
        """Make sure that the layout is ours, or make it so where nobody has been before.

        Raises:
            UnavailableError: It is that of another version.
        """
        layouts = self._collection(client, "layout")
        found = layouts.find_one({"_id": "layout"})
        if found is None:
            with suppress(DuplicateKeyError, OperationFailure):  # another is quicker, or we may not
                layouts.insert_one({"_id": "layout", "version": LAYOUT})
            found = layouts.find_one({"_id": "layout"}) or {"version": LAYOUT}
        version = found.get("version")
        if version != LAYOUT:
            where = f"{self._url}, prefix {self.options.prefix},"
            raise other_layout(where, found=str(version)[:20], known=LAYOUT, elsewhere="set another prefix")

    def _make_indexes(self, client: MongoClient[Doc]) -> None:
        """Make the collections and their indexes, where they are missing and we are allowed to."""
        for name, indexes in INDEXES.items():
            if indexes:
                collection = self._collection(client, name)
                try:
                    self._build(collection, indexes)
                except NetworkTimeout as error:
                    raise self.failures.of_building(collection.name) from bare(error)
                except OperationFailure as error:
                    if error.code in OTHER_INDEX:
                        raise self.failures.of_indexes(collection.name, in_the_way(collection, indexes)) from bare(
                            error
                        )
                    if error.code != NOT_ALLOWED:
                        raise

    def _build(self, collection: Collection[Doc], indexes: Sequence[IndexModel]) -> None:
        """Make *indexes* outside of any deadline: the server would throw away at its end what it has made of them.

        Whoever has less time than that fails, and leaves it to the server.
        """
        build = partial(Context().run, partial(collection.create_indexes, indexes))
        if end_of_time() is None:
            build()
            return
        made: Future[object] = Future()
        threading.Thread(target=_carry, args=(build, made), name="queuekit-mongo-indexes", daemon=True).start()
        try:
            made.result(time_left(threading.TIMEOUT_MAX))
        except TimeoutError as error:
            raise self.failures.of_building(collection.name) from error

    def _ask_time(self) -> float:
        client = self._opened()
        _next_reply(client)
        said = client.admin.command("hello", codec_options=client.codec_options)["localTime"]
        return int(said) / 1000  # the client decodes times as milliseconds


def _next_reply(client: MongoClient[Doc]) -> None:
    """Begin to wait for the next reply, once a server takes writes or the time that the caller has is over.

    The client library, while it waits for a server, looks at the time twice a second only.
    """
    if end_of_time() is not None:
        while not client.topology_description.has_writable_server():
            left = time_left(_POLL_EVERY)
            if not left:
                return
            time.sleep(left)
    renew()


def _carry(call: Callable[[], object], done: Future[object]) -> None:
    """Make *call*, and report to *done* how it ended."""
    try:
        done.set_result(call())
    except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is asked for
        done.set_exception(error)
