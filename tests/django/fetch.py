"""Fetches the sources of the Django that is installed here, which have its tests: ``python fetch.py FOLDER``."""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path


def main(folder: Path) -> None:
    """Put them into *folder*, unless they are there."""
    wanted = version("django")
    mark = folder / f"is-{wanted}"
    if mark.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as place:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "django"]
        subprocess.run([*pip, "--dest", place, f"django=={wanted}"], check=True)
        (archive,) = Path(place).iterdir()
        with tarfile.open(archive) as whole:
            whole.extractall(place, filter="data")
        (found,) = (each for each in Path(place).iterdir() if each.is_dir())
        shutil.copytree(found, folder)
    mark.touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
