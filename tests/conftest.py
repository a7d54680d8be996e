"""What holds for all tests."""

import functools
import importlib.util
import os
import shutil
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from support import commands, measuring, preloaded, rabbitmq, venvs
from support.calls import AT_HAND, SERVED
from support.collecting import pytest_collection, pytest_make_collect_report, pytest_pycollect_makeitem

__all__ = ["pytest_collection", "pytest_make_collect_report", "pytest_pycollect_makeitem"]
HERE = Path(__file__).parent
# What a shell runs in the background is born with these ignored, and so would be all that tests start and interrupt.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
measuring.patch_once()
measuring.skip_broken()
# A busy machine is no reason to fail: Hypothesis would stop where examples take long to make.
PATIENT = (HealthCheck.too_slow,)
# Fifty are half of what Hypothesis makes by itself. They are the same ones in each run, so few find anything new.
settings.register_profile("steady", deadline=None, derandomize=True, max_examples=50, suppress_health_check=PATIENT)
settings.register_profile(
    "random",
    deadline=None,
    max_examples=1_000,
    suppress_health_check=PATIENT,
    print_blob=True,
    database=DirectoryBasedExampleDatabase(Path(__file__).parents[1] / ".hypothesis" / "examples"),
)
# Chance is for `tox -e random`, which keeps what has failed and tries that first; else a run is as the one before.
settings.load_profile("random" if os.environ.get("QUEUEKIT_TEST_RANDOM") else "steady")


MODELS = (
    "unit/encoding/test_models.py",
    "unit/operations/test_redacted_models.py",
    "unit/tasks/test_argument_types.py",
    "unit/tasks/test_unique_models.py",
)
"""Tests of classes of Pydantic and msgspec, which the environments of core alone do not have."""
collect_ignore = [] if all(map(importlib.util.find_spec, ("msgspec", "pydantic"))) else [*MODELS]
NOT_CORE = ("amqp", "dashboard", "dev", "memcached", "mongo", "redis", "sqs", "thirdparty", "torture")
"""Folders of tests that say nothing about the lines of core which others do not, and so need not be measured."""
OTHER_ENGINES = {*AT_HAND, *SERVED} - {"memory"}
"""Engines on which the tests of workflows run through the lines of core that they do on the memory engine."""
NOT_CORE_SUITES = (
    "test_amqp.py",
    "test_dynamodb.py",
    "test_memcached.py",
    "test_mongo.py",
    "test_plugins.py",
    "test_redis.py",
    "test_sqs.py",
)
MEASURED_CHILDREN = (
    "test_cancel.py",
    "test_children.py",
    "test_deaf.py",
    "test_demo.py",
    "test_launch.py",
    "test_poison.py",
    "test_shutdown.py",
    "test_trouble.py",
)
"""Tests outside ``unit`` whose child processes run lines of core that no others do; measured, a start takes twice."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of what is made once per run, which processes that run tests for this one inherit."""
    if not hasattr(config, "workerinput"):
        os.environ[venvs.RUN] = tempfile.mkdtemp(prefix="queuekit-run-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove it, and end what all processes of the run have shared."""
    if not hasattr(config, "workerinput"):
        rabbitmq.end_shared(Path(os.environ[venvs.RUN]))
        shutil.rmtree(os.environ.pop(venvs.RUN), ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what is not about core out of the coverage of core: measured, it would take twice as long."""
    for item in items:
        if _says_nothing_of_core(item.path) or (_is_of_workflows(item.path) and _is_elsewhere(item)):
            item.add_marker(pytest.mark.no_cover)


@functools.cache
def _says_nothing_of_core(path: Path) -> bool:
    return _folder(path) in NOT_CORE or path.name in NOT_CORE_SUITES


@functools.cache
def _is_of_workflows(path: Path) -> bool:
    return _folder(path) == "workflows"


def _folder(path: Path) -> str:
    """Return the folder of tests that *path* is in."""
    return path.relative_to(HERE).parts[0] if path.is_relative_to(HERE) else ""


def _is_elsewhere(item: pytest.Item) -> bool:
    """Return whether a test of workflows runs on another engine than memory."""
    params = item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
    return any(isinstance(param, str) and param in OTHER_ENGINES for param in params)


# No fixtures of all tests: made for each of them, these two would take as long as all else that pytest does for one.
@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have no child processes measured but those of tests that need it."""
    config = None if _needs_measured_children(item) else os.environ.pop(measuring.CONFIG, None)
    try:
        return (yield)
    finally:
        if config is not None:
            os.environ[measuring.CONFIG] = config


def _needs_measured_children(item: pytest.Item) -> bool:
    needed = item.path.is_relative_to(HERE / "unit") or item.path.name in MEASURED_CHILDREN
    return needed and item.get_closest_marker("no_cover") is None


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop() -> Generator[None, object, object]:
    """End the processes that run commands, before the coverage of all processes is put together."""
    try:
        return (yield)
    finally:
        commands.close()
        preloaded.close()
