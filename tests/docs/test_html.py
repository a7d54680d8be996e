"""The built reference reads as it was written: no torn sentence, no default by the name that attrs gives it."""

import html
import re
from pathlib import Path

import pytest

BUILT = Path(__file__).parents[2] / "docs" / "_build" / "html"
PAGES = sorted((BUILT / "reference").rglob("*.html"))
SETTINGS = ("broker", "results_expire", "worker.drain", "worker.concurrency", "log.format", "plugins.disable")
ENGINES = {
    "sqlite": "sqlite.sync",
    "redis": "redis.key_prefix",
    "mongo": "mongo.change_streams",
    "sqs": "sqs.create",
    "amqp": "amqp.binding_key",
}
pytestmark = pytest.mark.skipif(not PAGES, reason="build the pages: tox -e docs")


def text(page: Path) -> str:
    """Return what a reader of *page* sees, in one line."""
    body = re.sub(r"<script.*?</script>|<style.*?</style>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", body)).split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(BUILT).as_posix())
def test_page_shows_no_name_that_attrs_made_up(page: Path) -> None:
    """Neither its table of defaults nor its mark for a missing one."""
    assert not re.findall(r"attr_dict\[.*?\]|\bNOTHING\b", text(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(BUILT).as_posix())
def test_page_tears_no_sentence_at_a_colon(page: Path) -> None:
    """What stands before a colon in the text of an attribute is no type: a type has no two words side by side."""
    fields = re.findall(
        r'<dt class="field-odd">Type<.*?<dd[^>]*>(.*?)</dd>', page.read_text(encoding="utf-8"), re.DOTALL
    )
    types = [html.unescape(re.sub("<[^>]+>", "", field)).strip() for field in fields]

    assert [text for text in types if re.search(r"\w\s+\w", text)] == []


def _rows(name: str) -> dict[str, list[str]]:
    """Return the rows of the tables of settings on the page *name*, by environment variable."""
    page = (BUILT / "reference" / f"{name}.html").read_text(encoding="utf-8")
    rows = [
        re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in re.findall(r"<tr.*?</tr>", page, re.DOTALL)
    ]
    cells = [[html.unescape(re.sub("<[^>]+>", "", cell)).strip() for cell in row] for row in rows]
    return {row[0].split()[-1]: row for row in cells if len(row) == 4 and "QUEUEKIT_" in row[0]}


def _variable(setting: str) -> str:
    return f"QUEUEKIT_{setting.replace('.', '__').upper()}"


@pytest.mark.parametrize("setting", SETTINGS)
def test_setting_has_a_row(setting: str) -> None:
    """With its default, what it takes, its variable and its meaning."""
    assert all(_rows("settings")[_variable(setting)])


@pytest.mark.parametrize(("engine", "setting"), ENGINES.items())
def test_engine_has_a_page_of_options(engine: str, setting: str) -> None:
    """A table as that of the settings."""
    assert all(_rows(engine)[_variable(setting)])


def test_settings_page_has_the_real_defaults() -> None:
    """As a config file would have them."""
    defaults = {variable: row[1] for variable, row in _rows("settings").items()}

    assert defaults["QUEUEKIT_BROKER"] == '"sqlite:///.queuekit.db"'
    assert defaults["QUEUEKIT_RESULTS_EXPIRE"] == '"1h"'
    assert defaults["QUEUEKIT_WORKER__CONCURRENCY"] == "10"


@pytest.mark.parametrize(
    "command", ["init", "worker", "schedules add", "dlq drop", "dlq purge", "plugin contract", "top", "metrics"]
)
def test_command_is_shown_under_its_name(command: str) -> None:
    """And not under that of the function behind it."""
    page = (BUILT / "reference" / "cli.html").read_text(encoding="utf-8")
    shown = html.unescape(re.sub("<[^>]+>", "", page)).splitlines()

    assert any(line.startswith(f"queuekit {command} [OPTIONS]") for line in shown)
    assert not any(line.startswith("queuekit command") for line in shown)


def test_options_have_two_dashes() -> None:
    """What a reader copies from the page of commands is what the program takes."""
    shown = text(BUILT / "reference" / "cli.html")

    assert "--app" in shown
    assert not re.findall(r"\N{EN DASH}\w+", shown)
