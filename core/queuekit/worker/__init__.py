"""A worker: takes messages, runs their tasks, writes the outcomes.

Import ``Worker`` to run one in this process, ``supervisor.Supervisor`` for worker processes, ``launch`` from an app.
Imports from: everything before it but engines, above all client, execution and schedules.
"""

from queuekit.worker.worker import Worker

__all__ = ["Worker"]
