"""What the admin lists. Neither has a table: engines keep both. Their permissions are rows as those of any model."""

from __future__ import annotations

from django.db import models

__all__ = ["FailedMessage", "TaskOutcome"]


class TaskOutcome(models.Model):
    """The stored result of a call."""

    id = models.CharField(primary_key=True, max_length=120)

    class Meta:
        """No table, and one permission: to view."""

        managed = False
        default_permissions = ("view",)
        verbose_name = "task result"

    def __str__(self) -> str:
        return self.id


class FailedMessage(models.Model):
    """A dead letter."""

    id = models.CharField(primary_key=True, max_length=120)

    class Meta:
        """No table, and two permissions: to view, and to retry."""

        managed = False
        default_permissions = ("view",)
        permissions = (("retry_failedmessage", "Can retry dead letter"),)
        verbose_name = "dead letter"

    def __str__(self) -> str:
        return self.id
