"""The application that ``INSTALLED_APPS`` names: it brings ``manage.py queuekit`` and the pages of the admin."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules

__all__ = ["QueuekitConfig"]


class QueuekitConfig(AppConfig):
    """Imports the modules ``tasks`` of all installed apps, as the admin does with ``admin``."""

    name = "queuekit_django"
    verbose_name = "Queuekit"

    def ready(self) -> None:
        """Import them."""
        autodiscover_modules("tasks")
