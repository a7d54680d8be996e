"""Runs the tests that Django has for its own backends on ours: ``python own_tests.py FOLDER URL``.

FOLDER is that of the tests in the archive of Django's sources, and URL that of an engine. What Django tests with its
backend ``dummy``, which keeps calls, runs on :class:`KeepingBackend`, and what it tests with ``immediate``, which runs
them, on :class:`RunningBackend`: ours, followed by a worker that works until its queues are empty. Names of tests that
follow are run alone; those in ``LEFT_OUT`` are not, for the reasons given there.
"""

import argparse
import contextlib
import importlib
import io
import os
import sys
import unittest
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import django
import django.test
from django.conf import settings
from django.tasks.backends import dummy, immediate
from django.tasks.base import Task, TaskResult
from django.test import override_settings
from django.test.runner import DiscoverRunner

from queuekit.broker import Place
from queuekit.worker import Worker
from queuekit_django import QueuekitBackend

URL: dict[str, str] = {}
"""URL of the engine, under ``broker``."""
_NOT_OURS = "it says what these two cannot, and ours can: read results, and run calls later"
_ENDS = "it checks that a call ends with the error of its task, and ours returns once the call is stored"
_CHANGES = "it changes the object that dummy keeps, and ours keeps records"
LEFT_OUT: Mapping[str, str] = {
    "DummyBackendTestCase.test_refresh_result": _CHANGES,
    "DummyBackendTestCase.test_refresh_result_async": _CHANGES,
    "ImmediateBackendTestCase.test_cannot_get_result": _NOT_OURS,
    "ImmediateBackendTestCase.test_cannot_refresh_result": _NOT_OURS,
    "ImmediateBackendTestCase.test_cannot_pass_run_after": _NOT_OURS,
    "ImmediateBackendTestCase.test_throws_keyboard_interrupt": _ENDS,
}
"""Tests that do not apply, with the reasons."""


class KeepingBackend(QueuekitBackend):
    """Ours, with what Django's tests ask ``dummy`` for: the results of all calls, and a way to forget them."""

    sent: list[str] = []  # noqa: RUF012 - all threads share it

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        vars(self)["options"] = {}  # Django's tests give none
        self._options = URL

    @property
    def holder(self) -> Any:
        """The app, on the engine of this run."""
        from queuekit_django.aliases import holder_of

        return holder_of(self.alias, frozenset(self.queues), self._options)

    def enqueue(self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult:
        """Put a call on its queue, and remember it."""
        result = super().enqueue(task, args, kwargs)
        self.sent.append(result.id)
        return result

    @property
    def results(self) -> list[TaskResult]:
        """All results, as they are stored."""
        return [self.get_result(id) for id in self.sent]

    def clear(self) -> None:
        """Forget all calls."""
        for id in self.sent:
            self.holder.app.forget(id)
            self.holder.app.runtime.backend.delete([f"django:{id}"])
        self.sent.clear()
        for queue in self.queues or {"default"}:
            self.holder.app.runtime.broker.purge(queue, place=Place.READY)


class RunningBackend(KeepingBackend):
    """Ours, with a worker that runs each call before the caller goes on."""

    def enqueue(self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskResult:
        """Put a call on its queue, and let a worker run it."""
        result = super().enqueue(task, args, kwargs)
        with contextlib.redirect_stderr(io.StringIO()):
            Worker(self.holder.app, burst=True).run()
        result.refresh()
        return result


OURS = {
    "django.tasks.backends.dummy.DummyBackend": KeepingBackend,
    "django.tasks.backends.immediate.ImmediateBackend": RunningBackend,
}


class OnOurs(override_settings):
    """Settings of a test, in which our backends take the places of Django's."""

    def __init__(self, **kwargs: Any) -> None:
        for entry in kwargs.get("TASKS", {}).values():
            own = OURS.get(entry["BACKEND"])
            entry["BACKEND"] = entry["BACKEND"] if own is None else f"{own.__module__}.{own.__qualname__}"
        super().__init__(**kwargs)


class Runner(DiscoverRunner):
    """Leaves out the tests that do not apply."""

    def build_suite(self, *args: Any, **kwargs: Any) -> unittest.TestSuite:
        """Return the tests, with those left out as skipped ones."""
        suite = super().build_suite(*args, **kwargs)
        for test in _cases(suite):
            why = LEFT_OUT.get(f"{type(test).__name__}.{test._testMethodName}")
            if why is not None:
                setattr(test, test._testMethodName, unittest.skip(why)(getattr(test, test._testMethodName)))
        return suite


def _cases(suite: unittest.TestSuite) -> Iterator[Any]:
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from _cases(one)
        else:
            yield one


def main() -> int:
    """Run them; return the number of failures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("url")
    parser.add_argument("tests", nargs="*")
    chosen = parser.parse_args()
    sys.modules["own_tests"] = sys.modules[__name__]
    for kind in (KeepingBackend, RunningBackend):
        kind.__module__ = "own_tests"
    sys.path.insert(0, chosen.folder)
    URL["broker"] = chosen.url
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["tasks"],
        SECRET_KEY="of these tests",  # noqa: S106 - guards nothing
        TASKS={"default": {"BACKEND": "own_tests.KeepingBackend", "QUEUES": []}},
        USE_TZ=True,
    )
    django.setup()
    vars(django.test)["override_settings"] = OnOurs
    vars(dummy)["DummyBackend"], vars(immediate)["ImmediateBackend"] = KeepingBackend, RunningBackend
    importlib.import_module("tasks.tasks")
    return Runner(verbosity=2, interactive=False).run_tests(chosen.tests or ["tasks"])


if __name__ == "__main__":
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    sys.exit(bool(main()))
