"""Where a demo runs: a folder of its own, a queue of its own, and the config file that names both."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from queuekit.app import Queuekit
from queuekit.errors import CapabilityError
from queuekit.records import result_key
from queuekit.urls import EngineURL

__all__ = ["TARGET", "Place", "make_place"]

TARGET = "queuekit.demo.tasks:app"
"""Where the app is."""

CONCURRENCY = 2
"""Threads of a worker process: parsing is bound to the GIL, so more of them would only mean more runs cut short."""
_PREFIX = "QUEUEKIT_"
_PASSED_ON = ("CONFIG", "DEBUG", "DISABLE_PLUGINS", "PLUGINS", "REQUIRE_ENGINES", "STRICT_PLUGINS", "TEST_")
"""How the names of variables begin, after the prefix, that the demo's own settings do not contradict."""


@attrs.frozen(kw_only=True)
class Place:
    """The surroundings of one demo."""

    folder: Path
    """Temporary; only its owner can look inside, for the config may hold passwords."""
    queue: str
    broker: str | None = attrs.field(repr=False)
    """URL; ``None`` for an SQLite file in the folder."""
    backend: str | None = attrs.field(repr=False)
    """URL; ``None`` for the broker's engine."""
    processes: int
    """Worker processes."""

    @property
    def foreign(self) -> bool:
        """Whether broker or backend are the user's own, and must be left clean."""
        return bool(self.broker or self.backend)

    @property
    def config(self) -> Path:
        """The config file."""
        return self.folder / "queuekit.toml"

    @property
    def log(self) -> Path:
        """What the workers print."""
        return self.folder / "workers.log"

    @property
    def note(self) -> Path:
        """File in which a task leaves the pid of its process."""
        return self.folder / "halfway.pid"

    def settings(self) -> dict[str, Any]:
        """Return all settings that matter, by dotted name."""
        broker = self.broker or _sqlite(self.folder / "queue.db")
        return {
            "app": TARGET,
            "broker": broker,
            "backend": self.backend or broker,
            "serializer": "json",
            "accept": ["json"],
            "default_queue": self.queue,
            "worker.processes": self.processes,
            "worker.concurrency": CONCURRENCY,
            "worker.lease": "10s",
            "worker.drain": "5s",
        }

    def write(self) -> None:
        """Write the config file, and an empty log."""
        self.log.touch()
        tables: dict[str, dict[str, Any]] = {}
        for key, value in self.settings().items():
            table, _, name = key.rpartition(".")
            tables.setdefault(table, {})[name] = value
        lines = ["# Written by queuekit demo"]
        for table, values in sorted(tables.items()):
            lines += [f"\n[{table}]"] if table else []
            # A JSON string is a TOML string as long as it needs no pairs of surrogates.
            lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
        self.config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def environ(self) -> dict[str, str]:
        """Return the environment of the workers: this one without what would overrule the config file."""
        hidden = set(_overruling(os.environ))
        return {key: value for key, value in os.environ.items() if key not in hidden} | {"PYTHONWARNINGS": "ignore"}

    def command(self, *words: str) -> str:
        """Return a command line of ``queuekit`` that works on this queue when it is pasted."""
        hidden = [part for name in _overruling(os.environ) for part in ("-u", name)]
        start = ["env", *hidden] if hidden else []
        return shlex.join([*start, *_program(), "--config", str(self.config), *words])

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def make_place(app: Queuekit, *, broker: str | None, backend: str | None, processes: int) -> Place:
    """Make folder and config file, and configure *app* with it; without URLs all is in one SQLite file there.

    Raises:
        CapabilityError: Other processes would not see what is in that broker or backend.
        QueuekitError: The URLs cannot be used, or nobody answers there.
    """
    place = Place(
        folder=Path(tempfile.mkdtemp(prefix="queuekit-demo-")),
        queue=f"demo-{secrets.token_hex(4)}",
        broker=broker,
        backend=backend,
        processes=processes,
    )
    try:
        _configure(app, place)
        if broker and not backend and not app.plugins.has_backend(EngineURL.parse(broker, setting="broker").scheme):
            place = attrs.evolve(place, backend=_sqlite(place.folder / "results.db"))
            _configure(app, place)
        _check(app, place.queue)
    except BaseException:
        place.remove()
        raise
    return place


def _configure(app: Queuekit, place: Place) -> None:
    """Give *app* the settings of *place*: as a file, and above the variables that in this process overrule it."""
    place.write()
    app.configure(place.settings(), path=str(place.config))


def _check(app: Queuekit, queue: str) -> None:
    """Refuse engines that the demo cannot use or that do not answer, before anything is started."""
    runtime = app.runtime
    store = runtime.need_backend("the demo")
    if not (runtime.broker.capabilities.processes and store.capabilities.processes):
        raise CapabilityError(
            "the demo runs tasks in other processes, which cannot see what is in the memory of this one",
            where=f"  broker = {str(runtime.broker_url)!r}, backend = {str(runtime.backend_url)!r}",
            fix="Leave --broker and --backend out, or name a server or a file",
        )
    runtime.broker.receive([queue], limit=0, wait=0, lease=1)
    store.get([result_key(queue)])


def _sqlite(path: Path) -> str:
    return "sqlite:///" + quote(str(path))


def _overruling(names: Iterable[str]) -> list[str]:
    """Return the environment variables that would overrule the demo's config file."""
    rest = {name: name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX)}
    return sorted(
        name
        for name, bare in rest.items()
        if bare.startswith(("WORKER__", "LOG__")) or ("__" not in bare and not bare.startswith(_PASSED_ON))
    )


def _program() -> list[str]:
    """Return how this installation's ``queuekit`` is called: by name if the shell would find it, else by its path."""
    script = Path(sys.executable).with_name("queuekit")
    found = shutil.which("queuekit")
    if found and Path(found) == script:
        return ["queuekit"]
    return [str(script)] if script.is_file() else [sys.executable, "-m", "queuekit.cli"]
