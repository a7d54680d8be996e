"""Workers of one command that are drained one by one."""

from pathlib import Path

from queuekit import Queuekit
from queuekit.operations.admin import Admin
from support.commands import queuekit, start, write
from support.waiting import PATIENCE, UNHURRIED, wait_until

TASKS = 'from queuekit import Queuekit\n\napp = Queuekit(broker="sqlite:///queue.db")\n'


def test_a_drained_process_is_not_replaced(tmp_path: Path) -> None:
    """The others of its command go on, and with the last one the command ends well."""
    write(tmp_path, {"tasks.py": TASKS})
    admin = Admin(Queuekit(broker=f"sqlite:///{tmp_path}/queue.db", send_timeout=UNHURRIED))
    process = start("worker", "--processes", "2", folder=tmp_path)
    try:
        wait_until(lambda: len(admin.fleet()) == 2, "two workers")
        first, second = (worker.name for worker in admin.fleet())
        drained = queuekit("drain", first, "--wait", f"{PATIENCE:g}s", folder=tmp_path)
        assert (drained.returncode, drained.stderr) == (0, f"drained  {first}: it has ended\n")
        assert [worker.name for worker in admin.fleet()] == [second]
        queuekit("drain", second, folder=tmp_path)
        _, log = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, "is stopping (drained by" in log, "a new process" in log) == (0, True, False)
    admin._runtime.close()
