"""For each capability it is known what happens without it, and the documentation says the same."""

from pathlib import Path

import attrs
import pytest

from queuekit.backend import BackendCapabilities
from queuekit.broker import Capabilities
from queuekit.plugins.support import BACKEND_PLAN, BROKER_PLAN, Support, steps
from support import commands

PAGE = (Path(__file__).parents[3] / "docs" / "capabilities.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "plan"), [(Capabilities, BROKER_PLAN), (BackendCapabilities, BACKEND_PLAN)], ids=["broker", "backend"]
)
def test_knows_every_capability(kind: type, plan: dict[str, Support]) -> None:
    """A capability that is added to a contract is added to the plan."""
    assert list(plan) == [field.name for field in attrs.fields(kind)]


@pytest.mark.parametrize("plan", [BROKER_PLAN, BACKEND_PLAN], ids=["broker", "backend"])
def test_page_says_what_the_plan_says(plan: dict[str, Support]) -> None:
    """The table of capabilities in the documentation is the plan, word for word."""
    rows = [f"| `{name}` | {step.how} | {step.text} |" for name, step in plan.items()]

    assert not [row for row in rows if row not in PAGE]


def test_what_is_declared_is_native() -> None:
    """An engine does by itself what it declares; of the rest the plan tells."""
    plan = steps(Capabilities(priority=False))

    assert (plan["priority"].how, plan["fifo"].how, plan["commit"].how) == ("refused", "native", "emulated")


def test_command_tells_the_plan_of_a_url(tmp_path: Path) -> None:
    """``queuekit plugins check`` tells plugin, factory, options and capabilities of both sides of a URL."""
    done = commands.queuekit("plugins", "check", "sqlite:///jobs.db?sync=full", folder=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "queuekit.engines.sqlite:SqliteBroker" in done.stdout
    assert "queuekit.engines.sqlite:SqliteBackend" in done.stdout
    assert "sync=full" in done.stdout
    assert not (tmp_path / "jobs.db").exists()


@pytest.mark.parametrize(
    ("url", "code", "text"),
    [
        pytest.param("sqlite:///jobs.db?snyc=full", 3, "did you mean 'sync'?", id="option"),
        pytest.param("reddis://localhost", 5, "Did you mean 'redis'?", id="scheme"),
        pytest.param("localhost:6379", 3, "has no scheme", id="no-scheme"),
    ],
)
def test_command_refuses_what_cannot_be(tmp_path: Path, url: str, code: int, text: str) -> None:
    """A URL with an unknown option or scheme is told of as everywhere."""
    done = commands.queuekit("plugins", "check", url, folder=tmp_path)

    assert done.returncode == code
    assert text in done.stderr
