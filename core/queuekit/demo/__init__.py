"""``queuekit demo``: real work on a real queue, with a worker process killed half-way."""

from queuekit.demo.job import run

__all__ = ["run"]
