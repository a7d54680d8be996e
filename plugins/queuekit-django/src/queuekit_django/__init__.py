"""A backend of ``django.tasks`` on queuekit: ``"BACKEND": "queuekit_django.QueuekitBackend"``.

Reaches into core further than a plugin may, and so is released with it. Of Django it imports nothing that needs apps
to be loaded, since modules of tasks are imported before they are.
"""

from __future__ import annotations

from queuekit_django.aliases import app_of
from queuekit_django.backend import QueuekitBackend
from queuekit_django.decorator import task
from queuekit_django.task_class import QueuekitTask

__all__ = ["QueuekitBackend", "QueuekitTask", "app_of", "task"]
