"""The tests of the example application pass, in memory and on servers, as its reader would run them."""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from queuekit_testing.kit import unique_name
from support import calls, pages
from support.aws_servers import shared_ministack
from support.commands import environment
from support.waiting import PATIENCE, UNHURRIED

SHOP = Path(__file__).parents[2] / "docs" / "examples" / "shop"
MISSING = [name for name in ("fastapi", "httpx2") if importlib.util.find_spec(name) is None]
"""Not imported here: its tests run in a process of their own, and each process of a run would import them."""
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}")


def passed(folder: Path, *options: str) -> tuple[int, str]:
    """Return how many tests have passed, and all that pytest printed."""
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env=environment(QUEUEKIT_SEND_TIMEOUT=str(UNHURRIED), **pages.ALONE),
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    count = re.search(r"(\d+) passed", done.stdout)
    return int(count[1]) if count else 0, done.stdout


def test_tests_of_the_shop_pass_in_memory(tmp_path: Path) -> None:
    """None of them is skipped."""
    count, printed = passed(tmp_path)

    assert (count >= 60, "skipped" in printed) == (True, False)


def sqlite(folder: Path) -> list[str]:
    """Return the options for a file."""
    return ["--queuekit-url", f"sqlite:///{folder}/shop.db"]


def redis(_folder: Path) -> list[str]:
    """Return the options for a server of Redis."""
    return ["--queuekit-url", calls._redis_url()]


def mongo(_folder: Path) -> list[str]:
    """Return the options for a server of MongoDB."""
    return ["--queuekit-url", calls._mongo_url()]


def aws(_folder: Path) -> list[str]:
    """Return the options for an imitation of SQS."""
    return ["--queuekit-url", shared_ministack().sqs(unique_name("shop"))]


@pytest.mark.full
@pytest.mark.parametrize("options", [sqlite, redis, mongo, aws])
def test_tests_of_the_shop_pass_on_an_engine(tmp_path: Path, options: Callable[[Path], list[str]]) -> None:
    """Those that move the clock are skipped with that reason."""
    count, printed = passed(tmp_path, *options(tmp_path))

    assert count >= 40, printed
    skipped = [line for line in printed.splitlines() if line.startswith("SKIPPED")]
    assert [line for line in skipped if "needs the virtual clock" not in line] == []
