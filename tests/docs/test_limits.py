"""The page of limits agrees with what the engines declare and what core enforces."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit import durations, failure
from queuekit.backend import BackendLimits
from queuekit.broker import Limits
from queuekit.config.settings import Config
from queuekit.envelope import MAX_HEADER_BYTES
from queuekit.ids import is_name
from queuekit.plugins.manager import Plugins
from queuekit.urls import EngineURL
from queuekit.wire.call_options import priority

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "limits.md").read_text(encoding="utf-8")
TABLES = {"broker": Limits, "backend": BackendLimits}
HEADER = re.compile(r"^\| (broker|backend) \|((?: `[a-z+]+://` \|)+)$", re.MULTILINE)
URLS = {"sqlite": "sqlite:///file", "sqs": "sqs://eu-west-1/a", "dynamodb": "dynamodb://eu-west-1/a"}
APART = {"amqp": "queuekit_amqp", "memcache": "queuekit_memcached"}
"""Plugins that an environment may lack, by scheme."""
COLUMNS = [(found[1], scheme) for found in HEADER.finditer(PAGE) for scheme in re.findall(r"`([a-z+]+)://`", found[2])]


def shown(value: Any) -> str:
    """Return a limit as the page has it."""
    if value is None:
        return "none"
    return f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"


def column(side: str, scheme: str) -> dict[str, str]:
    """Return what the page says of one engine."""
    header = next(found for found in HEADER.finditer(PAGE) if found[1] == side)
    place = re.findall(r"`([a-z+]+)://`", header[2]).index(scheme) + 1
    rows = PAGE[header.end() :].split("\n\n", 1)[0].strip().splitlines()[1:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {row[0].strip("`"): row[place] for row in cells}


@pytest.mark.parametrize(("side", "scheme"), COLUMNS)
def test_page_has_the_limits_of_each_engine(side: str, scheme: str) -> None:
    """Each number in the tables is what the engine declares."""
    if find_spec(APART.get(scheme, "queuekit")) is None:
        pytest.skip(f"{APART[scheme]} is not installed")
    url: Any = EngineURL.parse(URLS.get(scheme, f"{scheme}://h/a"))
    offer: Any = Plugins().offer
    limits = offer(side, url).spec.limits

    assert column(side, scheme) == {
        field.name: shown(getattr(limits, field.name)) for field in attrs.fields(type(limits))
    }


def test_page_has_both_tables() -> None:
    """Brokers and result backends have a table each."""
    assert {side for side, _ in COLUMNS} == {*TABLES}


def test_page_has_the_numbers_of_core() -> None:
    """What core enforces is what the page says."""
    assert (is_name("a" * 120), is_name("a" * 121)) == (True, False)
    assert priority(9) == 9
    assert f"{durations.LONGEST:,.0f} s" in PAGE
    assert f"{MAX_HEADER_BYTES:,} bytes" in PAGE
    assert Config(broker="memory://").max_message_bytes == 2**20
    assert f"{failure._LONGEST_TEXT:,} characters" in PAGE
    assert f"{failure._LONGEST_TRACEBACK:,} bytes" in PAGE
