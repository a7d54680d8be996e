"""Rewrites the assertions of all tests before they run: each process of a run would do it by itself, and most at once.

pytest keeps what it has rewritten beside the bytecode; six processes that start together find none of it. Run as a
program, this takes as long as the slower half of the tests, on two cores.
"""

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
IMITATION = "import ministack.app, ministack.services.dynamodb, ministack.services.s3, ministack.services.sqs"
"""What each process that imitates AWS imports; pip has not compiled it, and six processes would do so at once."""


def main() -> None:
    """Collect the tests in two processes, import the imitation in a third, and show what one that fails has printed."""
    rest = [str(path) for path in sorted(TESTS.iterdir()) if path.is_dir() and path.name not in {"unit", "support"}]
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider"]
    calls = [[*collect, str(TESTS / "unit")], [*collect, *rest], [sys.executable, "-c", IMITATION]]
    started = [subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for call in calls]
    outputs = [process.communicate()[0] for process in started]
    for process, output in zip(started, outputs, strict=True):
        if process.returncode:
            sys.exit(f"the tests cannot be collected:\n{output[-4000:]}")


if __name__ == "__main__":
    main()
