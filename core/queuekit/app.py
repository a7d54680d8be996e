"""The app: its tasks, and how their calls are sent to queues. Start reading here."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import functools
import math
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, Never, ParamSpec, TypeVar, overload

from queuekit.clock import Clock, SystemClock
from queuekit.context import Context
from queuekit.errors import OptionError
from queuekit.forks import renew_in_forks
from queuekit.ids import check_id, plain_data
from queuekit.middleware import Middleware, check_methods
from queuekit.resources import Resource, Scope
from queuekit.result import Result
from queuekit.retry import Backoff
from queuekit.schedules.declare import Periodic
from queuekit.signature import Signature
from queuekit.tasks.callables import gate_of
from queuekit.tasks.injection import ResourceDecorator, declare_resource
from queuekit.tasks.registry import Tasks, Types
from queuekit.tasks.task import Anything, AsyncTask, Task, TaskDecorator, aliases_of, options_of
from queuekit.trace import carries
from queuekit.unique import UniqueKey
from queuekit.wire.call_options import Duration, flag, seconds
from queuekit.workflows.workflow import is_workflow

# Engines, plugins and config are imported at first use: many processes import a module of tasks and never send one, and
# these imports would double the time of ``import queuekit``.
if TYPE_CHECKING:
    # What @contextmanager and @asynccontextmanager return has no public name.
    from contextlib import (
        _AsyncGeneratorContextManager,  # pyright: ignore[reportPrivateUsage]
        _GeneratorContextManager,  # pyright: ignore[reportPrivateUsage]
    )

    from queuekit.backend import Backend
    from queuekit.client.app_worker import AppWorker
    from queuekit.client.background import Background
    from queuekit.client.results import Results
    from queuekit.client.runtime import Runtime
    from queuekit.client.sender import Sending, Sent
    from queuekit.config.settings import Config
    from queuekit.engines.waits import Timeout
    from queuekit.events import Events
    from queuekit.execution.task_scope import OpenResource
    from queuekit.execution.worker_scope import WorkerScope
    from queuekit.execution.workflow_store import StoredGraph
    from queuekit.fair import Fair
    from queuekit.limiting.lock import Lock
    from queuekit.limiting.slot_block import SlotLimit
    from queuekit.limiting.throttle import RateLimit
    from queuekit.limits import Argument, Limit, LimitView, Rate
    from queuekit.plugins.manager import Plugins
    from queuekit.wire.records import Info
    from queuekit.workflows.results import ChainResult, ChordResult, Completed, GroupResult
    from queuekit.workflows.workflow import Chain, Chord, Group, Workflow

__all__ = ["Queuekit"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_LAUNCH = "queuekit.worker.launch"


class Queuekit(Periodic):
    """An app: a registry of tasks and the way to send them.

    Nothing is read or opened until the first send, result or worker needs it.

    Args:
        clock: Source of time; tests pass their own.
        chance: Source of randomness for retries and tokens; tests pass a seeded one.
        middlewares: Called before and after each send and run, in this order.
        **settings: Any setting, e.g. ``broker="redis://host/0"``, ``worker={"concurrency": 4}``. They override
            config files; ``QUEUEKIT_*`` variables and the command line override them.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        middlewares: Iterable[Middleware] = (),
        **settings: Any,
    ) -> None:
        super().__init__()
        self.tasks = Tasks()
        """Registered tasks by name."""
        self._types = Types(self.tasks)
        self._events: Events | None = None
        self.clock = _one(clock, ("time", "monotonic", "sleep", "wait"), option="clock") or SystemClock()
        """Source of time: the given clock, or this machine's."""
        self._chance = _one(chance, ("random", "randrange"), option="chance") or random.SystemRandom()
        self._settings = settings
        self._middlewares = _middlewares(middlewares)
        self._overrides: dict[str, Any] = {}
        self._config_path: str | None = None
        self._threads = _Threads()
        self._config: Config | None = None
        self._plugins: Plugins | None = None
        self._runtime: Runtime | None = None
        self._sending: Sending | None = None
        self._results: Results | None = None
        self._scope: WorkerScope | None = None
        self._declares_resources = False
        self.gates: list[Callable[[], object]] = []
        """Functions that hold back the messages of workers, see :meth:`gate`."""

    # -- tasks

    @overload
    def task(self, function: Callable[Concatenate[Anything, ...], Coroutine[Any, Any, R]], /) -> AsyncTask[..., R]: ...
    @overload
    def task(self, function: Callable[Concatenate[Anything, ...], R], /) -> Task[..., R]: ...
    @overload
    def task(self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        *,
        name: str | None = ...,
        aliases: Iterable[str] = ...,
        queue: str | None = ...,
        priority: int | None = ...,
        retries: int = ...,
        retry: Backoff = ...,
        retry_on: type | Iterable[type] = ...,
        dont_retry: type | Iterable[type] = ...,
        timeout: Duration | None = ...,
        time_limit: Duration | None = ...,
        pool: Literal["process", "thread"] | None = ...,
        expires: Duration | None = ...,
        on_unknown: Literal["hold", "drop", "dead"] | None = ...,
        ignore_result: bool = ...,
        unique: UniqueKey | bool | str | None = ...,
        fair_by: Argument | Fair | None = ...,
        broker: Mapping[str, Any] | None = ...,
        limits: Sequence[Limit] = ...,
        track: bool = ...,
        ack: Literal["late", "early"] = ...,
        coerce: bool = ...,
    ) -> TaskDecorator: ...
    def task(self, function: Any = None, **options: Any) -> Any:
        """Register a function as a task, with or without options.

        Args:
            function: A function or coroutine function. If its first parameter is annotated ``Context``, it receives
                one.
            **options: See :class:`~queuekit.tasks.task.TaskOptions`; also ``name``, the registered name (default:
                module and qualified name), and ``aliases``, earlier names under which messages may still arrive.

        Raises:
            DeclarationError: It is not a function, or a worker cannot run it, e.g. a generator function.
            DuplicateTaskError: Another function has the same name or alias.
            OptionError: An option does not exist, or its value is not valid.
        """
        chosen, aliases, name = options_of(options), aliases_of(options), options.get("name")

        def register(function: Callable[..., Any]) -> Task[..., Any]:
            task = self.tasks.declare(function, app=self, name=name, options=chosen, aliases=aliases)
            if self._plugins is not None:
                self._plugins.call("queuekit_task_registered", app=self, task=task)
            return task

        return register if function is None else register(function)

    def register_type(self, kind: type[T]) -> type[T]:
        """Let messages carry instances of an attrs class, dataclass or Enum; also usable as a decorator."""
        self._types.add(kind)
        return kind

    # -- resources

    def gate(self, function: Callable[[], bool], /) -> Callable[[], bool]:
        """Let *function* decide whether the app's workers take messages, as a decorator or called; return it.

        Each worker process asks it once a second, in a thread of its own. While it returns false, raises, or does not
        answer for 5 seconds, the worker takes no messages and hands back those that have not started; running tasks
        go on. All gates of an app must be open. A worker with a closed gate that works off its queues (``--burst``)
        ends at once.

        Raises:
            DeclarationError: It is not a function that can be called without arguments, or it is asynchronous.
        """
        self.gates.append(gate_of(function))
        return function

    @overload
    def resource(self, function: Callable[..., _GeneratorContextManager[T]], /) -> Resource[T]: ...
    @overload
    def resource(self, function: Callable[..., _AsyncGeneratorContextManager[T]], /) -> Resource[T]: ...
    @overload
    def resource(self, function: Callable[..., AsyncIterator[T]], /) -> Resource[T]: ...
    @overload
    def resource(self, function: Callable[..., Iterator[T]], /) -> Resource[T]: ...
    @overload
    def resource(self, function: Callable[..., Coroutine[Any, Any, T]], /) -> Resource[T]: ...
    @overload
    def resource(self, function: Callable[..., T], /) -> Resource[T]: ...
    @overload
    def resource(self, *, scope: Scope = ...) -> ResourceDecorator: ...
    def resource(self, function: Any = None, *, scope: Scope = "task") -> Any:
        """Declare a resource, which tasks receive by annotation: ``db: Annotated[Session, Use(session)]``.

        Args:
            function: A function that returns the value or a context manager, a generator function that yields it once,
                or a class of context managers; each may be asynchronous. Its own parameters are resources as well.
            scope: ``"task"`` opens it for each run of a task, and closes it when the outcome of the run is known;
                ``"worker"`` opens it once in a process, and closes it when the worker stops.

        Raises:
            DeclarationError: It cannot be a resource; says why.
            OptionError: *scope* is not a scope.
        """

        def declare(function: Callable[..., Any]) -> Resource[Any]:
            declared = declare_resource(function, app=self, scope=scope)
            self._declares_resources = True
            return declared

        return declare if function is None else declare(function)

    @property
    def resources(self) -> WorkerScope | None:
        """The resources of scope ``worker`` that are open in this process; ``None`` if the app declares none."""
        if self._scope is None and self._declares_resources:
            with self._threads.lock:
                if self._scope is None:
                    from queuekit.execution.worker_scope import WorkerScope

                    self._scope = WorkerScope()
        return self._scope

    def open(self, resource: Resource[T], /) -> OpenResource[T]:
        """Return a context manager, for ``with`` and ``async with``, that gives *resource* outside of tasks.

        A resource of scope ``worker`` stays open until :meth:`close`.

        Raises:
            OptionError: It is not a resource of this app.
        """
        from queuekit.execution.task_scope import OpenResource

        self._own(resource)
        return OpenResource(self._worker_scope, resource)

    @contextlib.contextmanager
    def override(self, resource: Resource[Any], value: Any) -> Iterator[None]:
        """Let *value*, or what another resource gives, take the place of *resource* in this block, e.g. in a test.

        Resources of scope ``worker`` open anew in the block, since they may use it, and close at its end.

        Raises:
            OptionError: It is not a resource of this app.
        """
        self._own(resource)
        before = self._worker_scope()
        self._scope = scope = before.again({resource: value})
        try:
            yield
        finally:
            self._scope = before
            scope.close()

    @contextlib.asynccontextmanager
    async def lifespan(self, _server: object = None) -> AsyncIterator[None]:
        """Close the app when a web server stops: ``FastAPI(lifespan=app.lifespan)``. Opens nothing."""
        from queuekit.client.event_loop import running_loop

        loop = running_loop()
        try:
            yield
        finally:
            await loop.run_in_executor(None, self.close)

    def _worker_scope(self) -> WorkerScope:
        scope = self.resources
        assert scope is not None  # noqa: S101 - a resource of this app is declared
        return scope

    def _own(self, resource: Any) -> None:
        if not isinstance(resource, Resource) or resource.app is not self:
            raise OptionError(f"{resource!r:.80} is not a resource of this app", fix="Declare it with @app.resource")

    # -- configuration

    @property
    def events(self) -> Events:
        """The events of this app; subscribe to them, e.g. for metrics."""
        with self._threads.lock:
            if self._events is None:
                from queuekit.events import Events

                self._events = Events()
            return self._events

    def configure(
        self, overrides: Mapping[str, Any] | None = None, *, path: str | os.PathLike[str] | None = None
    ) -> None:
        """Override settings, as the command line does; call it before anything is sent or read.

        An app that was in use closes its connections; if that fails, the error is logged, and the new settings hold.

        Args:
            overrides: Settings by dotted name, e.g. ``{"worker.concurrency": 4}``; they override all others.
            path: Config file to read instead of searching for one.

        Raises:
            OptionError: *overrides* is not a mapping of names, or *path* is not a path.
        """
        with self._threads.lock:
            self._overrides.update(_overrides(overrides))
            self._config_path = _path(path) or self._config_path
            used = self._runtime
            self._config = self._plugins = self._runtime = self._sending = None
        if used is None:
            return
        try:
            used.close()
        except Exception:
            import logging  # an app that only sends need not have it

            logging.getLogger("queuekit.resources").warning(
                "connections of the settings before did not close", exc_info=True
            )

    @property
    def config(self) -> Config:
        """The settings in effect, read at first use.

        Raises:
            ConfigError: Some settings are not valid; one error lists all problems.
        """
        return self._config or self._load_config()

    def _load_config(self) -> Config:
        with self._threads.lock:
            if self._config is None:
                from queuekit.config.settings import load_config, plugins_of

                self._config = load_config(
                    arguments=self._settings,
                    overrides=self._overrides,
                    path=self._config_path,
                    environ=os.environ,
                    directory=Path.cwd(),
                    plugins=plugins_of,
                )
            return self._config

    @property
    def plugins(self) -> Plugins:
        """The plugins, loaded at first use."""
        with self._threads.lock:
            if self._plugins is None:
                from queuekit.config.settings import plugins_of

                self._plugins = plugins = plugins_of(self.config)
                plugins.call("queuekit_configure", raising=True, app=self, config=self.config)
                for task in list(self.tasks.values()):
                    plugins.call("queuekit_task_registered", app=self, task=task)
            return self._plugins

    @property
    def runtime(self) -> Runtime:
        """Broker, backend, serializers and middleware, built at first use."""
        runtime = self._runtime
        if runtime is not None:
            return runtime
        with self._threads.lock:
            if self._runtime is None:
                from queuekit.client.runtime import build_runtime

                config, clock = self.config, self.clock
                if config.eager:
                    from queuekit.execution.eager import SkippingClock, eager_config

                    config, clock = eager_config(config), SkippingClock()
                self._runtime = build_runtime(
                    config,
                    self.plugins,
                    types=self._types.find,
                    middlewares=self._middlewares,
                    clock=clock,
                    chance=self._chance,
                    events=self.events,
                )
            return self._runtime

    def close(self) -> None:
        """Close all connections and the resources of scope ``worker``; they reopen when used."""
        if self._scope is not None:
            self._scope.close()
        with self._threads.lock:
            self._threads.close()
            if self._runtime is not None:
                self.plugins.call("queuekit_app_closing", app=self)
                self._runtime.close()

    # -- working

    def worker(
        self,
        *,
        queues: str | Sequence[str] | Mapping[str, int] | None = None,
        concurrency: int | None = None,
        processes: int | None = None,
        pool: Literal["thread", "process"] | None = None,
        name: str | None = None,
        drain: Duration | None = None,
        lease: Duration | None = None,
        max_tasks: int | None = None,
        max_rss: int | str | None = None,
        max_age: Duration | None = None,
        burst: bool = False,
        wait_for: Duration = 30.0,
    ) -> AppWorker:
        """Return a worker for this app, for this program to run: ``sys.exit(app.worker(concurrency=4).run())``.

        It starts worker processes as ``queuekit worker`` does. They import the module that holds the app; if that
        module is the program, put the program's own work under ``if __name__ == "__main__":``. Arguments that are not
        given come from the settings.

        Args:
            queues: Queues and their weights, e.g. ``"high:8,default"``.
            concurrency: Tasks that a process runs at a time.
            processes: Number of worker processes.
            pool: Where plain functions run: in threads, or in child processes.
            name: Prefix of the process names; default: the host name.
            drain: Seconds, or text such as ``"1m"``, that running tasks get to finish when the worker stops.
            lease: Seconds, or text, without renewal after which a worker's messages are delivered again.
            max_tasks: Bodies after which the process that runs them is replaced.
            max_rss: Bytes, or text such as ``"500MB"``, of memory above which a process is replaced.
            max_age: Seconds, or text, after which a worker process is replaced.
            burst: Whether to stop when the queues are empty.
            wait_for: Seconds, or text, to wait at start for engines that do not answer.

        Raises:
            ConfigError: Some settings or arguments are not valid; one error lists all problems.
            OptionError: *burst* is not a bool.
        """
        given: dict[str, Any] = {"queues": queues, "concurrency": concurrency, "processes": processes, "pool": pool}
        given |= {"drain": drain, "lease": lease, "max_tasks": max_tasks, "max_rss": max_rss, "max_age": max_age}
        chosen = {f"worker.{key}": value for key, value in given.items() if value is not None}
        overrides = {**self._overrides, **plain_data(chosen)}
        twin = self._twin(overrides)
        twin.config  # noqa: B018 - raises here if the settings are not valid
        # By name, since the worker is later than the app in the order of imports.
        launch: Any = import_module(_LAUNCH)
        patience = seconds(wait_for, option="wait_for")
        worker: AppWorker = launch.Launch(
            twin,
            self,
            overrides=overrides,
            config_path=self._config_path,
            name=name,
            burst=flag(burst, option="burst"),
            wait_for=patience,
        )
        return worker

    def _twin(self, overrides: dict[str, Any]) -> Queuekit:
        """Return an app that shares tasks, schedules and subscribers, with its own settings and connections."""
        self.events  # noqa: B018 - created here, so that both apps share it
        twin = copy.copy(self)
        vars(twin).update(_threads=_Threads(), _overrides=overrides)
        vars(twin).update(dict.fromkeys(("_config", "_plugins", "_runtime", "_sending", "_results")))
        return twin

    # -- sending

    @property
    def sending(self) -> Sending:
        """What prepares calls and sends them, made at first use; a plugin may store a record in the step that sends."""
        return self._sending or self._make_sending()

    def _make_sending(self) -> Sending:
        begun = time.monotonic()
        if self.config.eager:
            from queuekit.execution.eager import EagerSending

            sending: Sending = EagerSending(self.runtime, self.tasks)
        else:
            from queuekit.client.sender import Sending

            runtime = self.runtime  # the first use imports plugins and client libraries, which takes time
            sending = Sending(runtime, self.tasks, spent=time.monotonic() - begun)
        if sys.flags.dev_mode and not self.config.eager:
            from queuekit.client.loop_warning import warn_on_loops

            vars(sending)["send_one"] = warn_on_loops(sending.send_one)
        self._sending = sending
        return sending

    @overload
    def send(self, signature: Signature[R]) -> Result[R]: ...
    @overload
    def send(self, signature: Chain[R]) -> ChainResult[R]: ...
    @overload
    def send(self, signature: Group[R]) -> GroupResult[R]: ...
    @overload
    def send(self, signature: Chord[R]) -> ChordResult[R]: ...
    def send(self, signature: Signature[Any] | Workflow[Any]) -> Any:
        """Put one call on its queue, or start a workflow; see :meth:`queuekit.tasks.task.Bound.send`."""
        if not isinstance(signature, Signature):
            return self._start(signature)
        sent = (self._sending or self._make_sending()).send_one(signature)
        return _handle(sent, self._results or self._make_results())

    def _start(self, workflow: Workflow[Any]) -> Any:
        from queuekit.execution.workflow_start import start
        from queuekit.workflows.results import handle

        graph = start(self.runtime, self.sending, workflow)
        source, stored = self._results or self._make_results(), self.runtime.backend is not None
        return handle(graph.kind, graph.id, graph.top, source, flat=graph.flat, stored=stored)

    def send_many(self, signatures: Iterable[Signature[Any]]) -> list[Result[Any]]:
        """Put many calls on their queues, one round trip per batch of the broker.

        Raises:
            OptionError: An item is not a signature; its batch and later ones are not sent.
            PartialSendError: The broker refused some messages; names them. The others are sent.
            UniqueConflictError: Other messages hold the unique keys of some calls with ``on_conflict="raise"``; names
                them. The others are sent.
        """
        sent = self.sending.send(_signatures(signatures))
        source = self._results or self._make_results()
        handles = [_handle(one, source) for one in sent if not one.rejected]
        if len(handles) < len(sent):
            _raise_conflict(sent, source)
        return handles

    @overload
    async def asend(self, signature: Signature[R]) -> Result[R]: ...
    @overload
    async def asend(self, signature: Chain[R]) -> ChainResult[R]: ...
    @overload
    async def asend(self, signature: Group[R]) -> GroupResult[R]: ...
    @overload
    async def asend(self, signature: Chord[R]) -> ChordResult[R]: ...
    async def asend(self, signature: Signature[Any] | Workflow[Any]) -> Any:
        """Like :meth:`send`, without blocking the event loop."""
        within = self.config.send_timeout if isinstance(signature, Signature) else math.inf
        sending = self._sending
        if sending is not None and sending.joins and isinstance(signature, Signature) and not carries():
            sent = await self._threads.background.joined.send(sending, signature, within=within)
            return _handle(sent, self._results or self._make_results())
        send: Callable[..., Any] = self.send
        if self._runtime is None or self._runtime.stages.at_send or self.config.eager or carries():
            # What runs in the sender's thread sees the variables of the caller.
            send = functools.partial(contextvars.copy_context().run, send)
        return await self._threads.background.send(send, signature, within=within)

    async def asend_many(self, signatures: Iterable[Signature[Any]]) -> list[Result[Any]]:
        """Like :meth:`send_many`, without blocking the event loop."""
        here = contextvars.copy_context()
        return await self._threads.background.send(lambda: here.run(self.send_many, signatures))

    async def acall(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run any other call of this app without blocking the event loop, e.g. ``app.acall(app.schedules.all)``.

        It runs in one of the app's threads, and occupies it for its round trips only.
        """
        run: Any = contextvars.copy_context().run
        within = self.config.send_timeout
        found: T = await self._threads.background.send(lambda: run(function, *args, **kwargs), within=within)
        return found

    # -- results

    def as_completed(self, results: Iterable[Result[R]], timeout: Timeout = None) -> Completed[Result[R]]:
        """Return an iterator over *results* as they end, the first to end first, for ``for`` and ``async for``.

        Raises:
            ResultTimeout: Not all ended within *timeout*.
            UnknownIdError: Nothing is stored for one of them, so waiting would never end.
            NoBackendError: The results are not stored.
        """
        from queuekit.workflows.results import GroupResult

        known = list(results)
        ids, stored = [result.id for result in known], all(result.stored for result in known)
        source = self._results or self._make_results()
        return GroupResult[Any]("results", ids, source, stored=stored).as_completed(timeout)

    def _make_results(self) -> Results:
        from queuekit.client.results import Results

        self._results = results = Results(
            clock=self.clock,
            runtime=lambda: self.runtime,
            background=lambda: self._threads.background,
            cancel=self.cancel,
            graph=self._graph,
        )
        return results

    @overload
    def result(self, id: str) -> Any: ...
    @overload
    def result(self, id: str, task: Task[..., R]) -> Result[R]: ...
    def result(self, id: str, task: Task[..., Any] | None = None) -> Any:
        """Return a handle on message or workflow *id*, whichever process sent it. One round trip.

        Args:
            id: Id of the message or workflow.
            task: The task that the message calls. Type checkers then know the type of the result, and no round trip is
                needed.

        Returns:
            A :class:`~queuekit.result.Result`, or a handle of :mod:`queuekit.workflows.results` for a chain, group or
            chord.

        Raises:
            OptionError: *task* is not a task.
        """
        from queuekit.workflows.results import handle

        id, source = check_id(id), self._results or self._make_results()
        if task is not None:
            if not isinstance(task, Task):
                raise OptionError(f"task: expected a task, got {task!r:.60}")
            return Result(id, source)
        graph = self._graph(id)
        return Result(id, source) if graph is None else handle(graph.kind, id, graph.top, source, flat=graph.flat)

    def _graph(self, id: str) -> StoredGraph | None:
        from queuekit.execution.workflow_store import read_graph

        return read_graph(self.runtime, check_id(id, what="workflow"))

    def infos(self, ids: Sequence[str]) -> list[Info]:
        """Return the stored information about messages, in order. One round trip."""
        return (self._results or self._make_results()).infos(ids)

    def info(self, id: str) -> Info:
        """Return the stored information about message *id*; state UNKNOWN if nothing is stored. One round trip."""
        return self.infos([id])[0]

    async def ainfo(self, id: str) -> Info:
        """Like :meth:`info`, without blocking the event loop; coroutines that ask at once share round trips."""
        return await (self._results or self._make_results()).ainfo(id)

    async def acancel(self, id: str) -> bool:
        """Like :meth:`cancel`, without blocking the event loop."""
        return await self.acall(self.cancel, id)

    def cancel(self, id: str) -> bool:
        """Cancel message *id*: a waiting message never runs, a running task is notified.

        Returns:
            True if it had not ended yet.

        Raises:
            UnknownIdError: Nothing is stored for the id.
            NoBackendError: No backend is configured to store the cancel mark.
            UnavailableError: The engine did not answer within ``send_timeout``.
        """
        from queuekit.operations.admin import Admin

        return Admin(self).cancel(check_id(id))

    def _now(self) -> float:
        return self.runtime.now()

    def forget(self, id: str) -> None:
        """Delete the stored result of message *id*."""
        (self._results or self._make_results()).forget(id)

    # -- locks and limits

    def lock(self, name: str, *, ttl: Duration = 30.0, wait: Duration | None = None) -> Lock:
        """Return a lock that all processes of this app share: ``with app.lock("report"):``, or ``async with``.

        Entering the block raises ``LockTimeout`` if the lock is not free within *wait*, ``NoBackendError`` without a
        backend, and ``UnavailableError`` if the backend does not answer. Leaving it raises ``LockLostError`` if the
        lock was lost meanwhile.

        Args:
            name: Any printable text of at most 200 characters, e.g. ``f"invoice/{number}"``.
            ttl: Seconds, or text such as ``"1m"``, after which the lock of a dead process is free. A thread renews the
                lock while its block runs, however long.
            wait: Seconds, or text, to wait for the lock; 0 tries once, ``None`` waits as long as it takes.

        Raises:
            OptionError: An argument is not valid.
        """
        from queuekit.limiting.lock import Lock, LockStore

        threads = self._threads

        def backend() -> Backend:
            return self.runtime.need_backend("a lock")

        store = LockStore(
            clock=self.clock,
            backend=backend,
            run=threads.background.send,
            wait=lambda key, timeout: threads.background.listener(backend()).wait([key], timeout),
        )
        return Lock(store, name, ttl=ttl, wait=wait)

    def limits(self) -> list[LimitView]:
        """Return all limits that tasks declare or that have records, and their keys that are in use.

        This reads the records of those keys, so its cost grows with their number.

        Raises:
            NoBackendError: No backend is configured.
            CapabilityError: The backend cannot list records.
            UnavailableError: The backend did not answer within ``send_timeout``.
        """
        from queuekit.operations.limits import list_limits

        return list_limits(self)

    def limit(
        self,
        name: str,
        *,
        key: object = None,
        rate: Rate | None = None,
        most: int | None = None,
        wait: Duration | None = None,
    ) -> RateLimit | SlotLimit:
        """Return a limit to wait for: ``with app.limit("stripe"):``, or ``async with``.

        Entering the block waits for its turn by the rate, or for a slot, which the block holds. It raises
        ``LimitReachedError``, which has ``retry_after``, if that takes longer than *wait*; ``NoBackendError`` without a
        backend; and ``OptionError`` if no numbers are known.

        Args:
            name: Name of the limit. Tasks with a limit of that name share it.
            key: The key, e.g. a tenant; ``None`` for a limit without one.
            rate: The rate, if no task of this app declares the limit.
            most: Blocks and tasks at the same time, if no task declares the limit.
            wait: Seconds, or text such as ``"1s"``, to wait at most; ``None`` waits as long as it takes.

        Raises:
            InvalidNameError: *name* cannot name a limit.
            OptionError: Another argument is not valid.
        """
        from queuekit.limiting.slot_block import SlotLimit
        from queuekit.limiting.slot_store import Slots
        from queuekit.limiting.throttle import LimitStore, RateLimit
        from queuekit.limits import Concurrency

        if rate is not None and most is not None:
            raise OptionError("limit: rate and most are different limits", fix="Give one of them")

        def backend() -> Backend:
            return self.runtime.need_backend("a limit")

        store = LimitStore(
            clock=self.clock,
            backend=backend,
            now=self._now,
            run=self._threads.background.send,
            declared=lambda name: self.tasks.limits().get(name),
            slots=lambda: Slots(backend(), self.runtime.broker, lease=self.config.worker.lease),
            chance=lambda: self.runtime.random.random(),  # noqa: PLW0108 - the first use makes the runtime
        )
        limit = store.declared(name) if most is None else Concurrency(most)
        if rate is None and isinstance(limit, Concurrency):
            return SlotLimit(store, name, limit=limit, key=key, wait=wait, lease=self.config.worker.lease)
        return RateLimit(store, name, rate=rate, key=key, wait=wait)


class _Threads:
    """The lock and the threads of an app. A fork creates new ones; engines handle their own."""

    def __init__(self) -> None:
        self.renew_in_fork()
        renew_in_forks(self)

    def renew_in_fork(self) -> None:
        """Create a new lock, and drop the threads of the parent process."""
        self.lock = threading.RLock()
        self._background: Background | None = None

    @property
    def background(self) -> Background:
        """Threads for blocking calls made from an event loop."""
        background = self._background
        if background is None:
            from queuekit.client.background import Background

            with self.lock:
                background = self._background = self._background or Background()
        return background

    def close(self) -> None:
        """End the threads; they start again when needed."""
        if self._background is not None:
            self._background.close()


def _handle(sent: Sent, source: Results) -> Result[Any]:
    """Return the handle on what was sent.

    Raises:
        UniqueConflictError: Nothing was, since another message holds the unique key.
    """
    if sent.rejected:
        _raise_conflict([sent], source)
    return Result(sent.id, source, stored=sent.stored, duplicate=sent.duplicate, merged=sent.merged)


def _raise_conflict(sent: Sequence[Sent], source: Results) -> None:
    from queuekit.client.sender import conflict_in

    error = conflict_in(sent, source.look_up)
    if error is not None:
        raise error


def _signatures(signatures: Any) -> Iterator[Signature[Any]]:
    """Yield *signatures*, checking each."""
    if isinstance(signatures, str) or not isinstance(signatures, Iterable):
        what = f"send_many takes a list of signatures, not {type(signatures).__name__}"
        raise OptionError(what, fix="Put brackets around it")
    return (each if isinstance(each, Signature) else _no_signature(each) for each in signatures)


def _no_signature(value: Any) -> Never:
    fix = "Send it with app.send(...)" if is_workflow(value) else "Make one with task.s(...)"
    raise OptionError(f"send_many takes signatures, not {value!r:.60}", fix=fix)


def _one(value: T, verbs: Sequence[str], *, option: str) -> T:
    """Return *value* if it is ``None`` or an object that has the methods *verbs*."""
    if value is None or (not isinstance(value, type) and all(hasattr(value, verb) for verb in verbs)):
        return value
    raise OptionError(f"{option}: expected an object with {', '.join(verbs)}, got {value!r:.60}")


def _middlewares(values: Any) -> list[Middleware]:
    found = list(values) if isinstance(values, Iterable) else [values]
    for value in found:
        if not isinstance(value, Middleware):
            fix = f"Write {value.__name__}()" if isinstance(value, type) else "Derive its class from Middleware"
            raise OptionError(f"middlewares: {value!r:.60} is not a Middleware", fix=fix)
        check_methods(value)
    return found


def _overrides(values: Mapping[str, Any] | None) -> dict[str, Any]:
    if values is not None and not (isinstance(values, Mapping) and all(isinstance(name, str) for name in values)):
        raise OptionError(f"overrides: expected a mapping of settings by name, got {values!r:.60}")
    found: dict[str, Any] = plain_data(values or {})
    return found


def _path(value: str | os.PathLike[str] | None) -> str | None:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if path is None or (isinstance(path, str) and path.isprintable()):
        return path
    raise OptionError(f"path: expected the path of a config file, got {value!r:.60}")
