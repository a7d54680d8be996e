"""Apps with tasks that succeed and fail, and browsers of somebody who may look at them."""

from typing import Annotated, Any

from queuekit import Queuekit, Secret
from queuekit.limits import Rate
from support.browsing import Browser
from support.waiting import PATIENCE
from support.working import burst

__all__ = ["browser_on", "failed", "sent", "with_tasks"]


def with_tasks(app: Queuekit) -> Queuekit:
    """Return *app* with three tasks: one ends well, one fails with its number, one has a limit."""

    @app.task(name="add")
    def add(x: int, y: int = 0) -> int:
        """Return the sum."""
        return x + y

    @app.task(name="boom")
    def boom(number: int, card: Annotated[str, Secret] = "") -> None:
        """Fail."""
        raise ValueError(f"no {number}")

    @app.task(name="call", limits=[Rate("100/m", name="api")])
    def call(*urls: str, **options: Any) -> int:
        """Count."""
        return len(urls) + len(options)

    return app


def browser_on(app: Queuekit, *, role: Any = "act", root: str = "") -> Browser:
    """Return a browser of ann, who may look at *app*, or act."""
    from queuekit_dashboard.access import Access
    from queuekit_dashboard.web import make

    who = Access("ann", role)
    return Browser(make(app, access=lambda _: who, hosts=None, live="events", stream=0.0, moment=PATIENCE), root=root)


def sent(app: Queuekit, task: str, *args: Any, **options: Any) -> str:
    """Send a call and return its id."""
    id: str = app.tasks[task].options(**options).send(*args).id
    return id


def failed(app: Queuekit, count: int = 1) -> list[str]:
    """Return the ids of so many dead letters."""
    ids = [sent(app, "boom", number, "4711-0815") for number in range(count)]
    burst(app)
    return ids
