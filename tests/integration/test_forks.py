"""An app that was used before a fork, as under ``gunicorn --preload``: its children use it as well."""

from pathlib import Path

import pytest

from support.engines import ENGINES
from support.forks import forked


@pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=() if name == "redis" else pytest.mark.full) for name in ENGINES]
)
def test_a_fork_sends_and_gets_results(engine: str, tmp_path: Path) -> None:
    """A child has threads, locks and connections of its own, whatever its parent was doing when it forked."""
    urls = {f"QUEUEKIT_{name.upper()}": url for name, url in ENGINES[engine](tmp_path).items()}

    done = forked(urls)

    assert done.returncode == 0, done.stderr
