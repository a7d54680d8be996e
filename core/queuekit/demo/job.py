"""The demo from beginning to end."""

from __future__ import annotations

import sys
import sysconfig
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import attrs

from queuekit.admin import Admin
from queuekit.broker import Place as QueuePlace
from queuekit.demo import tasks
from queuekit.demo.counting import FileCount, Totals, add_up, count_all, find_sources
from queuekit.demo.crew import Crew, CrewError
from queuekit.demo.following import Following
from queuekit.demo.place import Place, make_place
from queuekit.demo.screen import Screen
from queuekit.demo.summary import Report, print_report
from queuekit.errors import QueuekitError, UnavailableError
from queuekit.records import Info, result_key
from queuekit.signature import Signature
from queuekit.states import State

__all__ = ["run"]

DELAY = 1.5
"""Seconds by which one task is delayed."""
DEFAULT_PROCESSES = 2
_LOOK = 0.1
_STALLED = 60.0
"""Seconds without any outcome after which the demo gives up."""
_INTERRUPTED = 130


def run(
    directory: Path | None = None,
    *,
    broker: str | None = None,
    backend: str | None = None,
    processes: int | None = None,
    out: TextIO | None = None,
) -> int:
    """Count the Python files in *directory* with tasks, kill a worker process half-way, and compare the totals.

    Args:
        directory: Default: the standard library of this Python.
        broker: URL; default: SQLite in a temporary folder.
        backend: URL; default: the broker's engine where it has a backend, else SQLite in a temporary folder.
        processes: Worker processes; default 2.
        out: Where to print; default: standard output.

    Returns:
        0 if all came out as it should, above all the totals; 1 if not; 130 if interrupted.

    Raises:
        QueuekitError: There is nothing to count, the URLs cannot be used, or the broker does not answer.
    """
    root = (directory or Path(sysconfig.get_path("stdlib"))).resolve()
    files = find_sources(root)
    if not files:
        raise QueuekitError(f"no Python files in {root}", fix="Name a directory that holds some, or none at all")
    screen = Screen(out or sys.stdout)
    try:
        place = make_place(tasks.app, broker=broker, backend=backend, processes=processes or DEFAULT_PROCESSES)
        return Demo(root=root, files=files, place=place, screen=screen).run()
    finally:
        tasks.app.close()


@attrs.define(kw_only=True)
class Demo:
    """One run of the demo."""

    root: Path
    files: Sequence[str]
    place: Place
    screen: Screen
    crew: Crew = attrs.field(init=False)
    sent: list[str] = attrs.field(factory=list)
    """Ids of all messages: the three special ones, then one a file."""
    victim: int = 0
    """Pid of the worker process that was killed."""

    def __attrs_post_init__(self) -> None:
        self.crew = Crew(self.place)

    def run(self) -> int:
        """Do it all, and leave nothing running, whatever happens."""
        finished = False
        try:
            report = self._work()
            print_report(report, self.screen)
            finished = True
        except CrewError as error:
            self.screen.line(f"\n{error.what}. What they said last:")
            for line in error.tail:
                self.screen.line(f"  {line}")
            return 1
        except KeyboardInterrupt:
            self.screen.line("\nInterrupted; cleaning up.")
            return _INTERRUPTED
        finally:
            self.screen.end()
            self.crew.stop()
            self._tidy(finished=finished)
        return 0 if report.good else 1

    def _work(self) -> Report:
        self._say_what()
        self.crew.start()
        began = time.monotonic()
        self._send()
        sent = time.monotonic()
        following = self._follow()
        self.crew.stop()
        ended = time.monotonic()
        plain = self._count_plainly()
        infos = following.ended
        stumbled, delayed, doomed, *counts = self.sent
        return Report(
            place=self.place,
            totals=add_up(_values([infos[id] for id in counts])),
            plain=plain,
            plain_seconds=time.monotonic() - ended,
            send_seconds=sent - began,
            sent=len(self.sent),
            outcomes=[infos[id] for id in counts],
            stumbled=infos[stumbled],
            delayed=infos[delayed],
            delay=DELAY,
            dead=list(Admin(tasks.app).dead(self.place.queue)),
            doomed=doomed,
            victim=self.victim,
            victim_file=self.files[self._halfway],
            repeated=len(self.crew.log.repeated()),
            crashes=tuple(self.crew.log.crashes),
        )

    # -- steps

    @property
    def _halfway(self) -> int:
        return len(self.files) // 2

    def _say_what(self) -> None:
        screen, runtime = self.screen, tasks.app.runtime
        screen.line(f"{screen.paint('queuekit demo', 'bold')}   {len(self.files):,} Python files in {self.root}")
        screen.line(f"  broker   {runtime.broker_url}")
        if runtime.backend_url and str(runtime.backend_url) != str(runtime.broker_url):
            screen.line(f"  results  {runtime.backend_url}")
        count = self.place.processes
        crew = f"{count} processes, one of which" if count > 1 else "1 process, which"
        screen.line(f"  workers  {crew} will be killed half-way")
        screen.line()

    def _send(self) -> None:
        """Send three special messages and one a file."""
        root = str(self.root)
        late: dict[str, Any] = {"delay": DELAY}
        if tasks.app.runtime.broker.capabilities.priority:
            late["priority"] = 9  # to start when it is due, not behind all that was due before
        specials: list[Signature[Any]] = [tasks.stumble.s(), tasks.later.options(**late).s(), tasks.fail.s()]
        calls: list[Signature[Any]] = [tasks.count.s(root, file) for file in self.files]
        calls[self._halfway] = tasks.count_and_wait.s(root, self.files[self._halfway], str(self.place.note))
        self.sent = [result.id for result in tasks.app.send_many([*specials, *calls])]

    def _follow(self) -> Following:
        """Wait until all messages have ended, and kill a worker process in between."""
        following, total = Following(tasks.app, self.sent), len(self.sent)
        self.screen.begin()
        began = moved = time.monotonic()
        while True:
            self.crew.check()
            self._kill_halfway()
            now = time.monotonic()
            moved = now if following.look() else moved
            done = len(following.ended)
            note = f"{done / max(0.01, now - began):,.0f}/s" + (f", killed {self.victim}" if self.victim else "")
            self.screen.progress("tasks", done, total, note)
            if following.done:
                return following
            if now - moved > _STALLED:
                raise self.crew.error(f"{total - done:,} tasks have not ended, and none within {_STALLED:g} s")
            time.sleep(_LOOK)

    def _kill_halfway(self) -> None:
        """Kill the process that the task for the file in the middle has named, once."""
        if self.victim or not self.place.note.exists():
            return
        text = self.place.note.read_text(encoding="ascii")
        if text.endswith("\n") and self.crew.kill(int(text)):
            self.victim = int(text)

    def _count_plainly(self) -> Totals:
        self.screen.begin()
        total = len(self.files)
        return count_all(
            self.root, self.files, on_file=lambda done: self.screen.progress("plain count", done, total, "to compare")
        )

    # -- the end

    def _tidy(self, *, finished: bool) -> None:
        """Leave a user's own broker and backend as they were, but for the dead letter of a finished demo."""
        with suppress(UnavailableError):
            if self.place.foreign:
                self._clean(keep=self.sent[2:3] if finished else [])
        if not finished:
            self.place.remove()

    def _clean(self, *, keep: Sequence[str]) -> None:
        broker, backend = tasks.app.runtime.broker, tasks.app.runtime.need_backend("the demo")
        if not keep:
            for where in (QueuePlace.READY, QueuePlace.DELAYED, QueuePlace.DEAD):
                broker.purge(self.place.queue, place=where)
        gone = [result_key(id) for id in self.sent if id not in keep]
        for id in self.crew.log.repeated():
            gone += [record.key for record in backend.scan(f"entered:{id}:").items]
        for first in range(0, len(gone), 500):
            backend.delete(gone[first : first + 500])


def _values(outcomes: Sequence[Info]) -> list[FileCount]:
    """Return what the tasks returned; one that failed is missing, and the totals will show it."""
    return [tasks.app.read_value(info) for info in outcomes if info.state is State.SUCCESS]
