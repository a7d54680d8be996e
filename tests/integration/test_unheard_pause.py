"""A pause beside a worker that cannot obey: the command says so, and the worker obeys when it can."""

import os
import signal
import time
from pathlib import Path

from queuekit import Queuekit
from queuekit.operations.admin import Admin
from queuekit.operations.pauses import until_obeyed
from support.commands import queuekit, start, write
from support.engines import ENGINES
from support.waiting import PATIENCE, UNHURRIED, wait_until


def test_a_frozen_worker_obeys_when_it_goes_on(tmp_path: Path) -> None:
    """Until then the pause names it, and since when it has given no sign of life."""
    broker = ENGINES["redis"](tmp_path)["broker"]  # a frozen process may hold a lock of SQLite
    write(tmp_path, {"tasks.py": f"from queuekit import Queuekit\n\napp = Queuekit(broker={broker!r})\n"})
    app = Queuekit(broker=broker, send_timeout=UNHURRIED)
    admin = Admin(app)
    process = start("worker", folder=tmp_path)
    try:
        (worker,) = wait_until(admin.fleet, "a worker")
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            said = queuekit("pause", "default", folder=tmp_path, QUEUEKIT_SEND_TIMEOUT=f"{UNHURRIED:g}")
        finally:
            os.kill(worker.pid, signal.SIGCONT)
        found = until_obeyed(admin, paused=admin.pauses(), patience=PATIENCE, sleep=time.sleep)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)
        app.close()
    assert said.returncode == 6
    assert f"obeyed by 0 of 1 workers; not yet by {worker.name} (" in said.stderr
    assert found is not None
    assert found.is_complete
