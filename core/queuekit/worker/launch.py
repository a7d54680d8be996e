"""Run the worker processes of an app from code: the object that :meth:`queuekit.app.Queuekit.worker` returns."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from queuekit.app import Queuekit
from queuekit.client.requirements import require_shared
from queuekit.errors import AppError
from queuekit.ids import check_name
from queuekit.worker.app_ref import AppRef
from queuekit.worker.log_setup import configure_logging
from queuekit.worker.supervisor import Supervisor

__all__ = ["Launch", "reference"]

_MAIN = "__main__"


class Launch:
    """A worker that a program runs itself; implements :class:`~queuekit.client.app_worker.AppWorker`.

    Args:
        app: The copy of the app that its supervisor uses; the program sends with the original.
        original: The app that a module holds.
        overrides: Settings by dotted name that *app* has and *original* has not.
        config_path: The config file of both, or ``None``.
        name: Prefix of the names of its processes; default: the host's name.
        burst: Whether to end when the queues are empty.
        wait_for: Seconds to wait at the start for engines that do not answer.
    """

    def __init__(
        self,
        app: Queuekit,
        original: Queuekit,
        *,
        overrides: Mapping[str, Any],
        config_path: str | None,
        name: str | None,
        burst: bool,
        wait_for: float,
    ) -> None:
        self._app = app
        self._original = original
        self._overrides = overrides
        self._config_path = config_path
        self._name = None if name is None else check_name(name, what="worker")
        self._burst = burst
        self._wait_for = wait_for
        self._lock = threading.Lock()
        self._supervisor: Supervisor | None = None
        self._asked = 0
        self._ran = False

    def run(self) -> int:
        """Work until told to stop; see :meth:`queuekit.client.app_worker.AppWorker.run`."""
        with self._lock:
            if self._ran:
                raise AppError(
                    "this worker has already run",
                    where="run() may be called only once",
                    fix="Make another worker:  app.worker().run()",
                )
            self._ran = True
        app = self._app
        ref = reference(self._original, self._overrides, self._config_path)
        require_shared(app.runtime)
        configure_logging(level=app.config.log.level, style=app.config.log.format)
        with self._lock:
            supervisor = Supervisor(app, ref, burst=self._burst, name=self._name, wait_for=self._wait_for)
            self._supervisor = supervisor
            for _ in range(self._asked):
                supervisor.stop()
        return supervisor.run()

    def stop(self, *, at_once: bool = False) -> None:
        """Start to stop; see :meth:`queuekit.client.app_worker.AppWorker.stop`."""
        with self._lock:
            self._asked = 2 if at_once else max(1, self._asked)
            if self._supervisor is not None:
                self._supervisor.stop(at_once=at_once)


def reference(app: Queuekit, overrides: Mapping[str, Any], config_path: str | None) -> AppRef:
    """Return the reference by which other processes load *app*, with the overrides that they use.

    Raises:
        AppError: No module holds the app, or the program that holds it cannot be imported.
    """
    module, attribute = _place(app)
    modules = {task.function.__module__ for task in app.tasks.values()}
    file = _main_file() if _MAIN in {module, *modules} else None
    names = tuple(_name_of(each) for each in sorted(modules) if each in sys.modules)
    return AppRef(
        target=f"{_name_of(module)}:{attribute}",
        overrides=overrides,
        config_path=config_path,
        file=file,
        modules=names,
        path=tuple(sys.path),
    )


def _place(app: Queuekit) -> tuple[str, str]:
    """Return a module and attribute that hold *app*; prefer other modules to the program itself."""
    found = [(name, attribute) for name, module in _modules() for attribute in _attributes(module, app)]
    found.sort(key=lambda pair: pair[0] == _MAIN)
    if not found:
        raise AppError(
            "worker processes cannot find the app: no module holds it",
            where="worker() starts processes that import the app's module",
            fix="Assign it to a variable of a module:  app = Queuekit(...)",
        )
    return found[0]


def _modules() -> Iterator[tuple[str, ModuleType]]:
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and name != "__mp_main__":
            yield name, module


def _attributes(module: ModuleType, app: Queuekit) -> list[str]:
    return [name for name, value in list(vars(module).items()) if value is app]


def _main_file() -> str | None:
    """Return the path of the program, by which others import it; ``None`` if it has a module name.

    Raises:
        AppError: It has neither: it was typed in, or read from a pipe.
    """
    main = sys.modules[_MAIN]
    if getattr(main, "__spec__", None) is not None:
        return None
    file = getattr(main, "__file__", None)
    if file is None or not Path(file).is_file():
        raise AppError(
            "worker processes cannot import this program: it is not a file",
            fix="Move the app and its tasks into a module, e.g. tasks.py, and import it",
        )
    return str(Path(file).absolute())


def _name_of(module: str) -> str:
    """Return the name by which other processes import a module; tasks are named after it."""
    if module != _MAIN:
        return module
    main = sys.modules[_MAIN]
    spec = getattr(main, "__spec__", None)
    return spec.name if spec is not None else Path(getattr(main, "__file__", None) or _MAIN).stem
