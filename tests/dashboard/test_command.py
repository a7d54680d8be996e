"""``queuekit dashboard`` serves on this machine, opens with the address that it prints, and ends when it is told to."""

import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from support.commands import MAIN, environment, write
from support.waiting import PATIENCE

pytest.importorskip("queuekit_dashboard", reason="pip install -e plugins/queuekit-dashboard starlette jinja2 uvicorn")


def _status(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            status: int = answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return status


def test_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    """The printed address shows the login, all else is closed, and Ctrl-C ends it."""
    write(tmp_path, {"tasks.py": "from queuekit import Queuekit\napp = Queuekit(broker='sqlite:///jobs.db')\n"})
    command = [*MAIN, "--app", "tasks:app", "dashboard", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            name, address = process.stderr.readline().split()
            root = address.partition("/login?token=")[0]

            found = [_status(address), _status(f"{root}/"), _status(f"{root}/static/live.js")]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)

    assert name == "dashboard"
    assert root.startswith("http://127.0.0.1:")
    assert found == [200, 403, 200]
