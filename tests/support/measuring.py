"""Coverage of processes that fork and are killed, in a run that measures some of its tests only."""

import importlib.util
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from weakref import WeakSet

__all__ = ["CONFIG", "patch_once", "skip_broken"]

CONFIG = "COVERAGE_PROCESS_CONFIG"
"""Variable by which a Python that starts knows that it is measured, and how."""


def patch_once() -> None:
    """Have each measurement patch ``fork`` and ``_exit`` once, however often it pauses.

    It does so with each start, and ``no_cover`` starts it again after each test. Every fork would then begin as many
    measurements as there were such tests, one inside the other: a minute of CPU in the end, which no limit foresees.
    """
    if importlib.util.find_spec("coverage") is None:
        return
    from coverage import Coverage, control

    module: Any = control
    apply = module.apply_patches
    present = Coverage.current()
    patched: WeakSet[Any] = WeakSet() if present is None else WeakSet([present])

    def apply_once(measurement: Any, *others: Any) -> None:
        if measurement not in patched:
            patched.add(measurement)
            apply(measurement, *others)

    module.apply_patches = apply_once


def skip_broken() -> None:
    """Take away what a process was writing when a test killed it, where the coverage of all is put together."""
    if importlib.util.find_spec("coverage") is None:
        return
    from coverage import data

    module: Any = data
    combinable = module.combinable_files

    def sound(*args: Any) -> list[str]:
        files: list[str] = combinable(*args)
        broken = {name for name in files if not _is_sound(name)}
        for name in broken:
            Path(name).unlink(missing_ok=True)
        return [name for name in files if name not in broken]

    module.combinable_files = sound


def _is_sound(name: str) -> bool:
    """Return whether a file of coverage can be read to its end."""
    try:
        with closing(sqlite3.connect(f"file:{name}?mode=ro", uri=True)) as connection:
            # A process that was killed may have made the tables, and not have said of which version they are.
            version = connection.execute("SELECT version FROM coverage_schema").fetchone()
            found = connection.execute("PRAGMA integrity_check").fetchone()
            return version is not None and bool(found == ("ok",))
    except sqlite3.Error:
        return False
