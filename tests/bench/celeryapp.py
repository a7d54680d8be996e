"""The same no-op task on Celery with its MongoDB transport, acknowledged late as queuekit does; results on request."""

from __future__ import annotations

import os

from celery import Celery

URL = os.environ["BENCH_MONGO_URL"]
app = Celery("celeryapp", broker=URL, backend=URL if os.environ.get("BENCH_RESULTS") else None)
app.conf.update(task_acks_late=True, task_ignore_result=not os.environ.get("BENCH_RESULTS"))


@app.task  # type: ignore[untyped-decorator]
def noop(number: int) -> None:
    """Do nothing."""
