"""Hooks that let the processes of one run collect its tests in less time: each of them collects all.

They change nothing where one process collects, in which one may ask for any test by its name.
"""

import fcntl
import gc
import inspect
import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from support.venvs import RUN

__all__ = ["pytest_collection", "pytest_make_collect_report", "pytest_pycollect_makeitem"]

APART = ("full", "fuzz", "torture")
"""Marks of what runs on demand."""


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collect no garbage meanwhile, and let what was collected be none of its concerns later."""
    if not _is_one_of_several(session.config):
        return (yield)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Have one process rewrite the assertions of a file, while others wait for what it keeps of that.

    In a fresh clone all would rewrite each file at the same time, which takes as long as the rest of collecting.
    """
    if sys.dont_write_bytecode or not isinstance(collector, pytest.Module) or not _is_one_of_several(collector.config):
        return (yield)
    with Path(os.environ[RUN], f"{collector.nodeid.replace('/', '-')}.collected").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return (yield)


def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, obj: object) -> list[pytest.Item] | None:
    """Make no tests of what is run on demand, and not now: a third of all would be made and left out."""
    if not (inspect.isclass(obj) or inspect.isfunction(obj)) or not _is_one_of_several(collector.config):
        return None
    asked: str = collector.config.option.markexpr
    marks = {mark.name for mark in (*getattr(obj, "pytestmark", ()), *collector.own_markers)}
    return [] if any(f"not {name}" in asked and name in marks for name in APART) else None


def _is_one_of_several(config: pytest.Config) -> bool:
    """Return whether this is a process of pytest-xdist."""
    return hasattr(config, "workerinput")
