"""Installs the distributions of ``tests/plugins.txt`` into this environment, without what they depend on.

pip starts a process of its own to build each. Run as a program, this builds all in one, in a tenth of the time.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Build the wheels, and have pip install them."""
    listed = (ROOT / "tests" / "plugins.txt").read_text(encoding="utf-8").splitlines()
    projects = [ROOT / line for line in listed if not line.startswith("#")]
    with tempfile.TemporaryDirectory() as folder:
        wheels = [wheel for project in projects for wheel in WheelBuilder(str(project)).build(directory=folder)]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall"]
        sys.exit(subprocess.run([*pip, *wheels], check=False).returncode)


if __name__ == "__main__":
    main()
