"""The worker: threads and processes that fetch, run, renew leases and settle.

Import ``Worker`` for one process, ``supervisor.Supervisor`` for several, ``app_ref`` to load an app by name.
Imports from: the top of the package, logs, wire, config, limiting, tasks, client, schedules, execution, operations.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from queuekit.worker.worker import Worker
else:

    def __getattr__(name: str) -> object:
        """Import the worker when it is asked for: commands that only load an app need none."""
        if name != "Worker":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from queuekit.worker.worker import Worker

        return Worker


__all__ = ["Worker"]
