"""Every code block of README and docs does what the page says."""

import re
from pathlib import Path

import pytest

from support import pages

ROOT = Path(__file__).parents[2]
FRONT = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
DOCS = [path for path in sorted((ROOT / "docs").rglob("*.md")) if not {"_build", "changelog.d"} & set(path.parts)]
NEEDED = {
    "dashboard.md": ["queuekit_dashboard", "a2wsgi", "fastapi", "flask", "httpx2"],
    "django.md": ["django.tasks", "queuekit_django"],
    "fastapi.md": ["fastapi", "httpx2"],
    "flask.md": ["flask"],
    "logs.md": ["structlog"],
    "monitor.md": ["queuekit_prometheus"],
    "sentry.md": ["sentry_sdk"],
    "trace.md": ["queuekit_otel", "opentelemetry.sdk"],
}
"""Libraries of others that pages show, in tests/libraries.txt."""
LINK = re.compile(r"\]\((?!https?:|mailto:|#)(?P<target>[^)#\s]+)")


def name_of(path: Path) -> str:
    """Return the path of a page as people say it."""
    return str(path.relative_to(ROOT))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", [*FRONT, *DOCS], ids=name_of)
def test_code_blocks_do_what_the_page_says(path: Path, tmp_path: Path) -> None:
    """All blocks of a page run from top to bottom in one folder, as a reader would try them."""
    for module in NEEDED.get(path.name, ()):
        pytest.importorskip(module)
    pages.run(pages.read(path), tmp_path)


@pytest.mark.parametrize("path", FRONT, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    """Relative links of the pages that the documentation builder does not see point at files that exist."""
    found = {match["target"] for match in LINK.finditer(path.read_text(encoding="utf-8"))}

    assert not {target for target in found if not (ROOT / target).exists()}
