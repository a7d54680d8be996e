"""The first minutes on Redis: what the quickstart and the demo do, with only the URL changed."""

import re
from pathlib import Path

import pytest

from support.commands import queuekit, start
from support.redis_servers import RedisServer

SOURCE = "import os\n\n\ndef one():\n    return os.sep\n"
FILES = 40


def test_quickstart_with_only_the_url_changed(redis_server: RedisServer, tmp_path: Path) -> None:
    """``init``, one line of ``queuekit.toml``, ``worker``, and ``send add 1 2 --wait`` prints 3."""
    queuekit("init", folder=tmp_path)
    config = tmp_path / "queuekit.toml"
    text, changed = re.subn(r'(?m)^broker = "[^"]+"', f'broker = "{redis_server.url}"', config.read_text())
    config.write_text(text)
    worker = start("worker", folder=tmp_path)
    try:
        added = queuekit("send", "add", "1", "2", "--wait", folder=tmp_path)
    finally:
        worker.terminate()
        worker.communicate(timeout=60)

    assert changed == 1
    assert (added.stdout, added.stderr, added.returncode) == ("3\n", "", 0)
    assert not list(tmp_path.glob(".queuekit.db*"))


@pytest.mark.timeout(180)
def test_demo_survives_its_kill(redis_server: RedisServer, tmp_path: Path) -> None:
    """``queuekit demo --broker redis://...`` kills a worker half-way, and its totals are exactly right."""
    sources = tmp_path / "sources"
    sources.mkdir()
    for number in range(FILES):
        (sources / f"module{number}.py").write_text(SOURCE, encoding="utf-8")

    ended = queuekit("demo", str(sources), "--broker", redis_server.url, folder=tmp_path)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "The totals are exactly right" in ended.stdout
    assert re.search(r"half-way, worker process \d+ got SIGKILL", ended.stdout)
