"""The queue of a test for ``unittest`` and Django."""

from __future__ import annotations

import unittest
from typing import ClassVar

from queuekit.app import Queuekit
from queuekit_testing.application.queue import AppQueue
from queuekit_testing.application.swap import queue_of

__all__ = ["QueueMixin", "QueueTestCase"]


class QueueMixin(unittest.TestCase):
    """Adds ``self.queue`` to a test case; name it before ``django.test.TestCase``.

    A test that leaves messages fails, unless ``leftovers`` is true.
    """

    queue_app: ClassVar[Queuekit | None] = None
    """The app; default: found as the commands find it."""
    leftovers: ClassVar[bool] = False
    """Whether a test may leave messages."""
    queue: AppQueue
    """The queue of the app."""

    def setUp(self) -> None:
        """Put the app on an engine in memory."""
        super().setUp()
        app = self.queue_app
        if app is None:
            from queuekit.cli.session import Session

            app = Session().app()[0]
        self.queue = self.enterContext(queue_of(app))

    def tearDown(self) -> None:
        """Fail if messages are left."""
        super().tearDown()
        if not self.leftovers and self.queue.leftovers:
            left = ", ".join(map(str, self.queue.leftovers[:3]))
            self.fail(f"messages that are left: {len(self.queue.leftovers)}, first {left}")


class QueueTestCase(QueueMixin):
    """A ``unittest.TestCase`` with ``self.queue``."""
