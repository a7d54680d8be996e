"""The first minutes on a server: what the quickstart and the demo do, with only the URL changed."""

import re
from pathlib import Path

import pytest

from support.calls import SERVED
from support.commands import queuekit, start
from support.waiting import PATIENCE, UNHURRIED

SOURCE = "import os\n\n\ndef one():\n    return os.sep\n"
FILES = 40
PATIENT = {"QUEUEKIT_SEND_TIMEOUT": f"{UNHURRIED:g}"}
"""The engine is as busy as the machine, and a send bears with that."""


@pytest.mark.parametrize("engine", ["redis", "mongo", pytest.param("aws", marks=pytest.mark.full)])
def test_quickstart_with_only_the_url_changed(engine: str, tmp_path: Path) -> None:
    """``init``, the URLs in ``queuekit.toml``, ``worker``, and ``send add 1 2 --wait`` prints 3."""
    config = SERVED[engine](tmp_path).config
    urls = f'broker = "{config.broker}"' + (f'\nbackend = "{config.backend}"' if config.backend else "")
    queuekit("init", folder=tmp_path)
    settings = tmp_path / "queuekit.toml"
    text, changed = re.subn(r'(?m)^broker = "[^"]+"', urls, settings.read_text())
    settings.write_text(text)
    worker = start("worker", folder=tmp_path, **PATIENT)
    try:
        added = queuekit("send", "add", "1", "2", "--wait", folder=tmp_path, **PATIENT)
    finally:
        worker.terminate()
        worker.communicate(timeout=PATIENCE)

    assert changed == 1
    assert (added.stdout, added.stderr, added.returncode) == ("3\n", "", 0)
    assert not list(tmp_path.glob(".queuekit.db*"))


@pytest.mark.full
@pytest.mark.parametrize("engine", ["redis", "mongo"])
def test_demo_survives_its_kill(engine: str, tmp_path: Path) -> None:
    """``queuekit demo --broker URL`` kills a worker half-way, and its totals are exactly right."""
    sources = tmp_path / "sources"
    sources.mkdir()
    for number in range(FILES):
        (sources / f"module{number}.py").write_text(SOURCE, encoding="utf-8")

    ended = queuekit(
        "demo", str(sources), "--broker", str(SERVED[engine](tmp_path).config.broker), folder=tmp_path, **PATIENT
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "The totals are exactly right" in ended.stdout
    assert re.search(r"Worker process \d+ got SIGKILL half-way", ended.stdout)
