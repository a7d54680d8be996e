"""One deployment and database for a broker or a backend: the client, collections, deadlines, transactions."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import deque
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
    BulkWriteError,
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
from queuekit_mongo.failures import INTERRUPTED, NOT_ALLOWED, OTHER_INDEX, WRITE_CONFLICT, Failures, is_passing
from queuekit_mongo.indexes import INDEXES, in_the_way
from queuekit_mongo.layout import LAYOUT, Doc
from queuekit_mongo.options import PASSTHROUGH, MongoOptions
from queuekit_mongo.replies import Replies, renew
from queuekit_mongo.servertime import ServerTime
from queuekit_mongo.tls import client_tls
from queuekit_mongo.urls import client_url, database_name, engine_id

__all__ = ["Engine"]

T = TypeVar("T")

_TRIES = 5
_UUID_BYTES = 16
_POLL_EVERY = 0.02
"""Seconds between two checks for a writable server."""
_CONFLICTS = 3
"""Multiple of ``options.timeout`` for which a transaction is retried while others conflict with it."""
_PATIENCE = 1.0
"""Seconds that the server waits before an empty reply of a change stream."""
_abandoned: list[object] = []
"""Clients of a parent process, which forks must neither use nor close."""


class Engine:
    """The access of a broker or backend to the deployment.

    Args:
        url: Names hosts and database.
        options: Options of the connection and the stored data.
        random: Spreads workers over a contested queue.
    """

    def __init__(self, url: EngineURL, *, options: MongoOptions | None, random: Random | None) -> None:
        self.options = options or MongoOptions()
        self.id = engine_id(url, self.options.prefix)
        self.random = random or Random()  # noqa: S311 - a spread of claims, not a secret
        self.failures = Failures(url)
        self.time = ServerTime(self._ask_time)
        self.hello: Doc | None = None
        """The server's ``hello`` reply at the first connection; ``None`` before."""
        self.on_set_aside: Callable[[str, str, str], None] | None = None
        """Called with queue, id and reason of each message that is dead-lettered as malformed."""
        self._url = url
        self._name = database_name(url)
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._client: MongoClient[Doc] | None = None
        self._session_lock = threading.RLock()
        self._session: ClientSession | None = None
        self._session_id: Any = None
        self._unsure: deque[ClientSession] = deque()
        """Sessions whose last transaction may still be open; nobody uses them until it is ended."""
        self._is_unsure = False
        """Whether this also applies to the session that claims name, which stays in use."""

    # -- features of the deployment ------------------------------------------------------------------------------

    @property
    def has_transactions(self) -> bool:
        """Whether the deployment has transactions; before the first connection, this is assumed."""
        return self.options.transactions and self._is_replicated()

    def transacts(self) -> bool:
        """Return whether the deployment has transactions; connect first, since nothing else shows it."""
        self._opened()
        return self.has_transactions

    @property
    def has_streams(self) -> bool:
        """Whether change streams can be used. A stream holds a connection, so the pool must allow another."""
        client = self._client
        alone = client is not None and client.options.pool_options.max_pool_size == 1
        return self.options.change_streams and self._is_replicated() and not alone

    def _is_replicated(self) -> bool:
        hello = self.hello
        return hello is None or "setName" in hello or hello.get("msg") == "isdbgrid"

    # -- collections ---------------------------------------------------------------------------------------------

    @property
    def messages(self) -> Collection[Doc]:
        """Messages, one document each."""
        return self.collection("messages")

    @property
    def queues(self) -> Collection[Doc]:
        """Names of all queues that messages were ever sent to."""
        return self.collection("queues")

    @property
    def lanes(self) -> Collection[Doc]:
        """The last tag of each lane."""
        return self.collection("lanes")

    @property
    def records(self) -> Collection[Doc]:
        """Records of the backend."""
        return self.collection("records")

    @property
    def groups(self) -> Collection[Doc]:
        """Groups and their members."""
        return self.collection("groups")

    def collection(self, name: str) -> Collection[Doc]:
        """Return queuekit's collection *name*, without the prefix, and start the time limit of its next reply."""
        client = self._opened()
        _next_reply(client)
        return self._collection(client, name)

    def watch(self, name: str, changes: Sequence[Doc]) -> CollectionChangeStream[Doc]:
        """Open a change stream on queuekit's collection *name*."""
        longest = self._opened().options.pool_options.socket_timeout
        # An empty reply must arrive before the socket times out, which would cost a connection each time.
        patience = min(_PATIENCE, longest / 2) if longest else _PATIENCE
        return self.collection(name).watch(changes, max_await_time_ms=int(patience * 1000))

    def database(self) -> Database[Doc]:
        """Return the database."""
        client = self._opened()
        _next_reply(client)
        return client[self._name]

    def _collection(self, client: MongoClient[Doc], name: str) -> Collection[Doc]:
        # Override the URL's read preference: a secondary may lack the latest claims and writes.
        return client[self._name].get_collection(
            f"{self.options.prefix}_{name}", read_preference=ReadPreference.PRIMARY
        )

    # -- calls ---------------------------------------------------------------------------------------------------

    @contextmanager
    def calls(self) -> Iterator[None]:
        """Convert the client library's errors; each reply may take ``options.timeout`` seconds.

        First end the transactions that failed calls left open: these would block this call for up to a minute.

        Raises:
            UnavailableError: The deployment did not answer, or refused.
        """
        try:
            with Replies(self.options.timeout):
                if self._unsure or self._is_unsure:
                    self._end_open_transactions()
                yield
        except InvalidBSON as error:
            raise self.failures.of_bytes(error) from bare(error)
        except PyMongoError as error:
            self.time.forget()
            raise self.failures.of(error) from bare(error)

    def insist(self, call: Callable[[], T]) -> T:
        """Return the result of *call*; repeat it, which must be safe, after a lost connection or primary."""
        for left in range(_TRIES, -1, -1):
            try:
                return call()
            except PyMongoError as error:
                if left == 0 or not is_passing(error):
                    raise
                self.time.forget()
        raise AssertionError("unreachable")

    def in_transaction(self, body: Callable[[ClientSession], T], *, touches_leases: bool) -> T:
        """Run *body* in a transaction; repeat it until the transaction is committed.

        A transaction that *touches_leases* runs in the session that this process's claims name, one at a time. So a
        process that takes back the messages of a dead one can end its last transaction. Otherwise that would lock the
        messages for as long as the server lets a transaction live: a minute.
        """
        if not touches_leases:
            with self._lent_session() as session:
                return self._transact(session, body)
        with self._session_lock:
            for left in range(_TRIES, -1, -1):
                try:
                    return self._transact(self._own_session(), body)
                except OperationFailure as error:
                    # Another process took back a message whose lease had ended; the other messages are not affected.
                    if left == 0 or error.code != INTERRUPTED:
                        self._is_unsure = not _is_aborted(error)
                        raise
                except BaseException:
                    self._is_unsure = True
                    raise
        raise AssertionError("unreachable")

    def in_one_transaction(self, body: Callable[[ClientSession], T]) -> T:
        """Run *body* in a transaction, which is not retried if others conflict with it."""

        def once() -> T:
            if self._unsure:
                self._end_open_transactions()  # that of the last attempt would conflict with this one
            with self._lent_session() as session, session.start_transaction():
                done = body(session)
                renew()  # for the commit
                return done

        return self.insist(once)

    @contextmanager
    def _lent_session(self) -> Iterator[ClientSession]:
        """Lend a session for one transaction; if that may still be open afterwards, remember the session.

        The transaction is open if its commit or its abort never reached the server. The client library would give the
        session to the next call, or forget it.
        """
        session = self._opened().start_session()
        try:
            yield session
        except BaseException as error:
            if not _is_aborted(error):
                self._unsure.append(session)
                raise
            session.end_session()
            raise
        session.end_session()

    def _end_open_transactions(self) -> None:
        """End the transactions that failed calls of this process may have left open.

        If one was committed after all, nothing changes.
        """
        self._opened()  # in a forked child, this forgets the parent's
        unsure: list[ClientSession] = []
        with suppress(IndexError):
            while True:
                unsure.append(self._unsure.popleft())
        # While another thread has the lock, its transaction in the same session has ended the one before.
        own = self._is_unsure and self._session_lock.acquire(blocking=False)
        try:
            ids = [session.session_id["id"] for session in unsure]
            if own and self._session is not None:
                ids.append(self._session.session_id["id"])
            if ids:
                self.insist(partial(self._kill, ids))
            self._is_unsure = self._is_unsure and not own
        except BaseException:
            self._unsure.extend(unsure)
            raise
        finally:
            if own:
                self._session_lock.release()
        for session in unsure:
            session.end_session()

    def _transact(self, session: ClientSession, body: Callable[[ClientSession], T]) -> T:
        concern = self._opened().write_concern
        results: list[T] = []

        give_up = time.monotonic() + _CONFLICTS * self.options.timeout

        def run(session: ClientSession) -> None:
            if time.monotonic() > give_up:
                raise ExecutionTimeout("other transactions conflict with this one", 50)
            results[:] = [body(session)]
            renew()  # for the commit

        try:
            session.with_transaction(run, write_concern=concern, read_preference=ReadPreference.PRIMARY)
        except WriteConcernError as error:
            if error.code != INTERRUPTED:
                raise
            session.commit_transaction()  # it is committed; repeat the commit to wait for the secondaries
        return results[0]

    def session_id(self) -> object:
        """Return the session id that this process's claims name; ``None`` without transactions."""
        if not self.transacts():
            return None
        if self._session_id is None:
            with self._session_lock:
                self._session_id = self._own_session().session_id["id"]
        return self._session_id

    @property
    def claims_as(self) -> object:
        """The session id that this process's claims name; ``None`` if it has claimed nothing. No round trip."""
        return self._session_id if self._pid == os.getpid() else None

    def kill_sessions(self, ids: Iterable[object]) -> None:
        """End the transactions of other processes' sessions; if that is not allowed, they time out."""
        # Drop foreign values: they would make the server refuse the whole command.
        sessions = {
            id for id in ids if isinstance(id, Binary) and id.subtype == UUID_SUBTYPE and len(id) == _UUID_BYTES
        }
        others = sessions - {self._session_id}
        if others:
            self._kill(others)

    def _kill(self, ids: Iterable[object]) -> None:
        with suppress(OperationFailure):
            self.database().command("killSessions", [{"id": id} for id in ids])

    def _own_session(self) -> ClientSession:
        client = self._opened()
        if self._session is None:
            self._session = client.start_session()
        return self._session

    def new_mark(self) -> str:
        """Return a text that no other claim or call has."""
        # Not from self.random: processes may share its seed, and forks its state.
        return secrets.token_hex(10)

    def close(self) -> None:
        """Close the client; the next call opens another."""
        with self._lock_of_this_process():
            client, self._client = self._client, None
            self._session = self._session_id = None
            self._unsure, self._is_unsure = deque(), False
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
        """Hold the lock, if it is free within the time limit of the caller.

        Raises:
            UnavailableError: Another thread has been trying to connect all that time.
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
        """Return the lock; in a forked child, first abandon the parent's client and sessions."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.RLock()
            _abandoned.extend((self._client, self._session, self._unsure))
            self._client = self._session = self._session_id = None
            self._unsure, self._is_unsure = deque(), False
            self._session_lock = threading.RLock()
            self.time = ServerTime(self._ask_time)
        return self._lock

    def _open(self) -> MongoClient[Doc]:
        milliseconds = int(self.options.timeout * 1000)
        asked = {"tls" if name.lower() == "ssl" else name.lower() for name in self._url.query}
        ours: dict[str, Any] = {
            "appname": "queuekit",
            "serverselectiontimeoutms": milliseconds,
            "connecttimeoutms": milliseconds,
            "sockettimeoutms": 2 * milliseconds,
            "w": "majority",
            **client_tls(self.options),
        }
        try:
            # The client only warns about invalid values and ignores them, e.g. it would connect without TLS.
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
        """Check that the layout has the version of this release; write the version to a new database.

        Raises:
            UnavailableError: The layout has another version.
        """
        layouts = self._collection(client, "layout")
        found = layouts.find_one({"_id": "layout"})
        if found is None:
            with suppress(DuplicateKeyError, OperationFailure):  # another process was first, or the user may not write
                layouts.insert_one({"_id": "layout", "version": LAYOUT})
            found = layouts.find_one({"_id": "layout"}) or {"version": LAYOUT}
        version = found.get("version")
        if version != LAYOUT:
            where = f"{self._url}, prefix {self.options.prefix},"
            raise other_layout(where, found=str(version)[:20], known=LAYOUT, elsewhere="set another prefix")

    def _make_indexes(self, client: MongoClient[Doc]) -> None:
        """Create missing collections and indexes, if the user may."""
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
        """Create *indexes* without a deadline: at its end, the server would discard an unfinished index.

        A caller with a shorter time limit gets an error, while the server goes on building.
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


def _is_aborted(error: BaseException) -> bool:
    """Return whether the server has answered with *error*, and so ended the transaction."""
    if isinstance(error, BulkWriteError | DuplicateKeyError):
        return True
    return isinstance(error, OperationFailure) and error.code == WRITE_CONFLICT


def _next_reply(client: MongoClient[Doc]) -> None:
    """Start the time limit of the next reply, once a server accepts writes or the caller's time is over.

    While the client library waits for a server, it checks the time only twice a second.
    """
    if end_of_time() is not None:
        while not client.topology_description.has_writable_server():
            left = time_left(_POLL_EVERY)
            if not left:
                return
            time.sleep(left)
    renew()


def _carry(call: Callable[[], object], done: Future[object]) -> None:
    """Run *call*, and store its result or error in *done*."""
    try:
        done.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised again where the result is read
        done.set_exception(error)
