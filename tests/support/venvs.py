"""Virtual environments with built wheels and nothing else: as users have them, made without a package index.

What several tests need is made once per run, by whichever of its processes comes first.
"""

import fcntl
import functools
import os
import re
import shutil
import subprocess
import tempfile
import venv
import zipfile
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path, PurePath
from typing import Self

ROOT = Path(__file__).parents[2]
KIT = ROOT / "plugins" / "queuekit-testing"
HIDDEN = ("COV", "PYTEST", "PYTHON", "QUEUEKIT", "TOX", "VIRTUAL_ENV")
"""How the names of variables begin that a user does not have."""
RUN = "PYTEST_QUEUEKIT_RUN"
"""Variable that names the folder of what is made once per run."""
_REQUIRED = re.compile(r"([A-Za-z0-9._-]+)(?!.*\bextra\b)")


class Venv:
    """A virtual environment in *folder*, with pip's own files left out.

    Args:
        folder: Where to make it.
        copies: Distributions to copy from this process's environment, with all that they require: no index is asked.
    """

    def __init__(self, folder: Path, *, copies: Iterable[str] = ("attrs", "click", "pluggy")) -> None:
        self.folder = folder
        venv.create(folder, symlinks=True)
        self.packages = _packages(folder)
        for dist in {name: dist for wanted in copies for name, dist in _closure(wanted)}.values():
            _copy(dist, self.packages)

    @classmethod
    def at(cls, folder: Path) -> Self:
        """Return the environment that is in *folder* already."""
        found = cls.__new__(cls)
        found.folder, found.packages = folder, _packages(folder)
        return found

    @classmethod
    def copy(cls, folder: Path, of: Path) -> Self:
        """Return an environment in *folder* with all that the one in the folder *of* has; nobody writes into a file."""
        return cls.at(shutil.copytree(of, folder, symlinks=True, copy_function=_link))

    @property
    def python(self) -> Path:
        """The interpreter."""
        return self.folder / "bin" / "python"

    def install(self, *wheels: Path) -> None:
        """Unpack *wheels*, without their programs: what pip does with them, in a hundredth of the time."""
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(self.packages)

    def run(self, *args: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run the interpreter with *args* in *folder*; *settings* are environment variables."""
        environ = {**bare(), "NO_COLOR": "1", "COLUMNS": "100", **settings}
        command = [str(self.python), *args]
        return subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=500, check=False
        )

    def queuekit(self, *args: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run ``queuekit`` with *args*."""
        return self.run("-m", "queuekit.cli", *args, folder=folder, **settings)


def _link(source: str, target: str) -> None:
    """Give a file a second name, which takes a tenth of the time of a copy; copy it to another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def bare() -> dict[str, str]:
    """Return the environment of a user who knows nothing of tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}


def _packages(folder: Path) -> Path:
    (found,) = folder.glob("lib/python*/site-packages")
    return found


@functools.cache
def once_per_run(name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder called *name* that *make* has filled, given its path; it is there until the run ends."""
    run = Path(os.environ[RUN])
    folder = run / name
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (run / f"{name}.done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            (run / f"{name}.done").touch()
    return folder


@functools.cache
def wheel_of(project: Path) -> Path:
    """Return the wheel of *project*, built once per run."""
    folder = once_per_run(f"wheel-{project_name(project)}", functools.partial(build_wheel, project))
    (wheel,) = folder.glob("*.whl")
    return wheel


def bare_environment(folder: Path) -> Venv:
    """Return an environment with pytest and the wheel of core, as applications have it."""
    return Venv.copy(folder, once_per_run("bare", _make_bare))


def author_environment(folder: Path) -> Venv:
    """Return an environment with core and the tools of an author."""
    return Venv.copy(folder, once_per_run("author", _make_author))


def _make_bare(folder: Path) -> None:
    made = Venv(folder, copies=("attrs", "click", "pluggy", "pytest"))
    made.install(wheel_of(ROOT))
    _compile(made, "import queuekit.cli.program")


def _make_author(folder: Path) -> None:
    made = Venv(folder, copies=("attrs", "click", "pluggy", "pytest", "pytest-timeout", "hypothesis"))
    made.install(wheel_of(ROOT), wheel_of(KIT))
    _compile(made, "import hypothesis.stateful, queuekit.cli.program\nfrom queuekit.testing import BrokerConformance")


def _compile(made: Venv, imports: str) -> None:
    """Have *made* keep the bytecode of what its tests import, or each copy of it would compile all of that again."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_imports.py").write_text(imports, encoding="utf-8")
        made.run("-m", "pytest", "--collect-only", folder=Path(folder))


def build_wheel(project: Path, folder: Path) -> Path:
    """Build the wheel of *project* into *folder* and return it; ten times as quick as the command does it."""
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(project)).build(directory=str(folder))
    return Path(wheel)


def project_name(project: Path) -> str:
    """Return the name of the distribution in *project*."""
    found = re.search(r'^name = "(.+)"$', (project / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[1]


def _closure(wanted: str) -> Iterator[tuple[str, metadata.Distribution]]:
    """Yield *wanted* and all that it requires, as far as it is here."""
    waiting, seen = [wanted], set[str]()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            dist = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another system or another Python
        yield name, dist
        waiting += [match[1] for text in dist.requires or () if (match := _REQUIRED.match(text))]


def _copy(dist: metadata.Distribution, packages: Path) -> None:
    """Copy the files of *dist* that lie among the packages, and the bytecode that is there of them."""
    folders = set()
    for file in dist.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        target = packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(dist.locate_file(file)), target)
        folders.add(file.parent)
    for folder in folders - {PurePath()}:
        cache = Path(str(dist.locate_file(folder)), "__pycache__")
        if cache.is_dir():
            shutil.copytree(cache, packages / folder / "__pycache__", dirs_exist_ok=True)
