"""The same no-op task on Celery with a quorum queue of RabbitMQ, acknowledged late as queuekit does; no results."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("celeryamqp", broker=os.environ["BENCH_AMQP_URL"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    task_default_queue=os.environ["BENCH_QUEUE"],
    task_default_queue_type="quorum",
    broker_transport_options={"confirm_publish": True},
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "4")),
    worker_detect_quorum_queues=True,
    worker_enable_remote_control=False,
)


@app.task  # type: ignore[untyped-decorator]
def noop(number: int) -> None:
    """Do nothing."""
