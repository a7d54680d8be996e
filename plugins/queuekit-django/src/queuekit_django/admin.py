"""Pages of the admin: stored results, and dead letters, which who has the permission may retry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.tasks import task_backends
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from queuekit.app import Queuekit
from queuekit.broker import Place
from queuekit.cli.output import counted
from queuekit.errors import DecodeError, QueuekitError
from queuekit.operations.admin import Admin, MessageView
from queuekit.operations.dead_letters import walk
from queuekit.wire.records import Info, read_info, result_key
from queuekit_django.aliases import app_of
from queuekit_django.backend import QueuekitBackend
from queuekit_django.models import FailedMessage, TaskOutcome
from queuekit_django.results import moment_of

__all__ = ["FailedMessageAdmin", "TaskOutcomeAdmin"]

_PAGE = 50
"""Rows of a page."""


class _Pages(admin.ModelAdmin):
    """A model of the admin that has one page, and no table."""

    template = ""

    def get_urls(self) -> list[URLPattern]:
        """Return the address of the page; there is none to add, change or delete."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        return [path("", self.admin_site.admin_view(self.changelist_view), name=name)]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return false: calls make them."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the page, or do what it asks for.

        Raises:
            PermissionDenied: The user may not.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        aliases = [alias for alias in task_backends.settings if isinstance(task_backends[alias], QueuekitBackend)]
        alias = request.GET.get("alias", "")
        alias = alias if alias in aliases else next(iter(aliases), "")
        shown: Mapping[str, Any] = {}
        try:
            if request.method == "POST" and alias:
                return self.act(request, app_of(alias))
            shown = self.found(request, app_of(alias)) if alias else {}
        except QueuekitError as error:
            messages.error(request, str(error))
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": self.opts.verbose_name_plural}
        return TemplateResponse(request, self.template, {**context, "aliases": aliases, "alias": alias, **shown})

    def act(self, request: HttpRequest, app: Queuekit) -> HttpResponse:
        """Do what a form asks for.

        Raises:
            PermissionDenied: Always; pages that have a form say more.
        """
        raise PermissionDenied

    def found(self, request: HttpRequest, app: Queuekit) -> Mapping[str, Any]:
        """Return what the page shows."""
        raise NotImplementedError


@admin.register(TaskOutcome)
class TaskOutcomeAdmin(_Pages):
    """Lists results as the backend keeps them, and shows all that is known of one id."""

    template = "queuekit_django/results.html"

    def found(self, request: HttpRequest, app: Queuekit) -> Mapping[str, Any]:
        """Return one message, or a page of results."""
        operator, id = Admin(app), request.GET.get("id", "").strip()
        if id:
            view = operator.show(id)
            return {"id": id, "view": view, "facts": _facts(view), "message": view.message}
        backend = operator.listing("listing results")
        with operator.in_time():
            page = backend.scan(result_key(""), limit=_PAGE, cursor=request.GET.get("cursor") or None)
        return {"rows": list(_infos(page.items)), "cursor": page.cursor}


@admin.register(FailedMessage)
class FailedMessageAdmin(_Pages):
    """Lists dead letters, the newest first in each queue, and retries those that are chosen."""

    template = "queuekit_django/dead_letters.html"

    def may_retry(self, request: HttpRequest) -> bool:
        """Return whether the user may put dead letters back on their queues."""
        user: Any = request.user
        return bool(user.has_perm(f"{self.opts.app_label}.retry_failedmessage"))

    def act(self, request: HttpRequest, app: Queuekit) -> HttpResponse:
        """Put the chosen dead letters back on their queues, and record who did it.

        Raises:
            PermissionDenied: The user may not retry.
        """
        if not self.may_retry(request):
            raise PermissionDenied
        operator, chosen = Admin(app), dict[str, list[str]]()
        for one in request.POST.getlist("letter"):
            queue, _, id = one.partition(" ")
            chosen.setdefault(queue, []).append(id)
        count = 0
        for queue, ids in chosen.items():
            replayed = operator.replay(queue, ids)
            operator.acted("dlq retry", by=request.user.get_username(), on=queue, ids=replayed)
            count += len(replayed)
        messages.success(request, f"Put back on their queues: {count}")
        return HttpResponseRedirect(request.get_full_path())

    def found(self, request: HttpRequest, app: Queuekit) -> Mapping[str, Any]:
        """Return the newest dead letters."""
        operator = Admin(app)
        letters = [
            {
                "id": queued.id,
                "task": queued.task,
                "queue": queued.stored.envelope.queue,
                "reason": queued.stored.reason,
                "error": queued.stored.error,
                "died": moment_of(queued.stored.died_at),
            }
            for queued in islice(walk(operator, None), _PAGE)
        ]
        return {"letters": letters, "may_retry": self.may_retry(request), "count": _count(operator)}


def _count(operator: Admin) -> str:
    return counted(operator.dead_count(), Place.DEAD)


def _infos(records: Any) -> Iterator[dict[str, Any]]:
    """Yield a row for each record that can be read."""
    for record in records:
        try:
            info = read_info(record.key.partition(":")[2], record)
        except DecodeError:
            continue
        yield {"info": info, "finished": moment_of(info.finished)}


def _facts(view: MessageView) -> list[tuple[str, Any]]:
    """Return what is known of a message, a line each."""
    info: Info = view.info
    queued = None if view.queued is None else view.queued.stored
    facts = [
        ("Task", info.task or (view.queued.task if view.queued else "")),
        ("Queue", info.queue or (queued.envelope.queue if queued else "")),
        ("State", str(info.state)),
        ("In the queue", "" if queued is None else queued.place.value),
        ("Attempt", info.attempt + 1 if info.worker else ""),
        ("Worker", info.worker or view.holder),
        ("Sent", moment_of(info.sent)),
        ("Started", moment_of(info.started)),
        ("Finished", moment_of(info.finished)),
        ("Error", f"{info.error_type}: {info.error}".strip(": ")),
    ]
    return [(name, value) for name, value in facts if value not in (None, "")]
