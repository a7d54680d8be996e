"""The table of what each engine can do is what the engines say; QUEUEKIT_TEST_GOLDEN=write writes it anew."""

import os

import attrs

from queuekit.backend import BackendCapabilities
from queuekit.broker import Capabilities
from queuekit.plugins import Plugins
from queuekit.urls import EngineURL
from support.venvs import ROOT

PAGE = ROOT / "docs" / "compatibility.md"
BROKERS = ("memory", "sqlite", "redis", "redis+cluster", "sqs", "mongodb")
BACKENDS = ("memory", "sqlite", "redis", "redis+cluster", "dynamodb", "mongodb")


def table(side: str, schemes: tuple[str, ...], kind: type) -> str:
    """Return the capabilities of *side* as a Markdown table, an engine a column."""
    plugins = Plugins(environ={})
    specs = [getattr(plugins, f"{side}_spec")(EngineURL.parse(f"{scheme}://")) for scheme in schemes]
    rows = [["", *(f"`{scheme}://`" for scheme in schemes)], ["---"] * (1 + len(schemes))]
    for field in attrs.fields(kind):
        marks = ["yes" if getattr(spec.capabilities, field.name) else "-" for spec in specs]
        rows.append([f"`{field.name}`", *marks])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def test_page_says_what_engines_declare() -> None:
    """Each engine that ships has its column, with what its spec declares, which its conformance run has proved."""
    tables = {
        "Brokers": table("broker", BROKERS, Capabilities),
        "Result backends": table("backend", BACKENDS, BackendCapabilities),
    }
    text = PAGE.read_text(encoding="utf-8")
    if os.environ.get("QUEUEKIT_TEST_GOLDEN") == "write":
        head = text.partition("\n## ")[0].rstrip("\n")
        text = head + "\n" + "".join(f"\n## {title}\n\n{rows}" for title, rows in tables.items())
        PAGE.write_text(text, encoding="utf-8")

    assert not [title for title, rows in tables.items() if f"\n## {title}\n\n{rows}" not in text]
