"""The worker: threads and processes that fetch, run, renew leases and settle.

Import ``Worker`` for one process, ``supervisor.Supervisor`` for several, ``app_ref`` to load an app by name.
Imports from: the top of the package, logs, wire, plugins, config, tasks, client, schedules, execution, operations.
"""

from queuekit.worker.worker import Worker

__all__ = ["Worker"]
