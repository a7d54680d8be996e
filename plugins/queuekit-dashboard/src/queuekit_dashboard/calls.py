"""What a page gets, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import attrs

from queuekit.app import Queuekit
from queuekit.broker import QueueCounts
from queuekit.errors import OptionError
from queuekit.operations.admin import Admin
from queuekit_dashboard.access import Access
from queuekit_dashboard.bulk import BulkActions
from queuekit_dashboard.figures import Figures

__all__ = ["Action", "Go", "HtmlPage", "PageFunction", "PageRequest", "Site", "link"]


@attrs.frozen(kw_only=True)
class Site:
    """What all requests of a dashboard share."""

    app: Queuekit
    admin: Admin
    figures: Figures
    bulk: BulkActions
    sessions: bool = False
    """Whether a one-time token opens it, so that visitors can log out."""


@attrs.frozen(kw_only=True)
class PageRequest:
    """A request for a page, or for an action."""

    site: Site
    access: Access
    query: Mapping[str, str] = attrs.field(factory=dict)
    """The parameters of the address."""
    form: Mapping[str, Sequence[str]] = attrs.field(factory=dict)
    """The fields of a form, each with its values."""

    @property
    def admin(self) -> Admin:
        """The operator's interface to the app."""
        return self.site.admin

    @property
    def app(self) -> Queuekit:
        """The app."""
        return self.site.app

    @property
    def by(self) -> str:
        """Who acts."""
        return self.access.name

    def counts_of(self, queue: str) -> QueueCounts | None:
        """Return the counts of a queue, which the figures have if it is known; ``None`` if nobody counts."""
        found = next((view.counts for view in self.site.figures.look().queues if view.name == queue), None)
        return self.admin.counts_of(queue) if found is None else found

    def given(self, name: str) -> str:
        """Return a field of the form, without spaces around it; empty if it is not filled."""
        return next(iter(self.form.get(name, ())), "").strip()

    def need(self, name: str) -> str:
        """Return a field of the form.

        Raises:
            OptionError: It is not filled.
        """
        value = self.given(name)
        if not value:
            raise OptionError(f"the form has no {name}", fix="Go back and fill it")
        return value

    def need_consent(self) -> None:
        """Raise unless the box beside what cannot be undone is ticked.

        Raises:
            OptionError: It is not.
        """
        if self.given("sure") != "yes":
            raise OptionError("this cannot be undone, and its box was not ticked", fix="Go back and tick it")


@attrs.frozen(kw_only=True)
class HtmlPage:
    """A page to show."""

    template: str
    values: Mapping[str, Any]
    status: int = 200


@attrs.frozen
class Go:
    """Where to go after an action, and what it did in words."""

    to: str
    said: str = ""


PageFunction = Callable[[PageRequest], HtmlPage]
Action = Callable[[PageRequest], Go | HtmlPage]


def link(path: str, **query: Any) -> str:
    """Return the address of a page within the dashboard; parameters that are empty are left out."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
