"""A worker: takes messages, runs their tasks, writes the outcomes."""

from queuekit.worker.worker import Worker

__all__ = ["Worker"]
