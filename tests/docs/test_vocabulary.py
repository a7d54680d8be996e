"""One vocabulary: the glossary names what exists, and words that were given up do not come back.

What is still to be renamed stands in ``words.toml`` with a count, which may only be lowered.
"""

import importlib
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "core" / "queuekit").rglob("*.py"))
PLUGINS = sorted(path for path in (ROOT / "plugins").rglob("*.py") if "src" in path.parts)
PAGES = sorted(
    path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "changelog.d", "decisions"} & set(path.parts)
)
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (?P<term>[^|]+) \| (?P<meaning>[^|]+) \| `(?P<where>queuekit[\w.]*)` \|$", re.MULTILINE)
TOKEN = re.compile(
    r"""(?P<text>\"{3}(?:\\.|[^\\])*?\"{3}|\#[^\n]*)"""
    r"""|[bfr]{0,2}(?:\"{3}(?:\\.|[^\\])*?\"{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|\d\w*|(?P<name>\w+)""",
    re.DOTALL,
)
"""A docstring or comment, another string, a number, or a name. Python's own tokenizer takes eight times as long."""
CLASS = re.compile(r"^class ([A-Za-z]\w*)", re.MULTILINE)
PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
WORDS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
TERMS = [match.groupdict() for match in ROW.finditer(GLOSSARY)]


def resolve(path: str) -> object:
    """Return what the dotted *path* names: a module, or something in one."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(path)


@cache
def written() -> tuple[Counter[str], list[str]]:
    """Return how often each name stands in core and the plugins, and all docstrings and comments."""
    names, texts = Counter[str](), list[str]()
    for path in [*CORE, *PLUGINS]:
        for match in TOKEN.finditer(path.read_text(encoding="utf-8")):
            if match["name"]:
                names[match["name"]] += 1
            elif match["text"]:
                texts.append(match["text"])
    return names, texts


@cache
def identifiers() -> Counter[str]:
    """Return how often each word is a part of an identifier, in core and the plugins."""
    found: Counter[str] = Counter()
    for name, count in written()[0].items():
        found.update(dict.fromkeys({part.lower() for part in PART.findall(name)}, count))
    return found


@cache
def prose() -> str:
    """Return the pages of the documentation, and all docstrings and comments of core and the plugins."""
    return "\n".join([*(path.read_text(encoding="utf-8") for path in PAGES), *written()[1]])


def classes() -> Iterator[tuple[str, str]]:
    """Yield the name and the file of each class at the top of a module of core or a plugin, private ones left out."""
    for path in [*CORE, *PLUGINS]:
        yield from ((name, path.name) for name in CLASS.findall(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("row", TERMS, ids=lambda row: row["term"])
def test_a_term_lives_where_the_glossary_says(row: dict[str, str]) -> None:
    """Each term is defined in one sentence, and names a module, class or function that exists."""
    assert row["meaning"].endswith(".")
    assert resolve(row["where"]) is not None


def test_every_row_of_the_glossary_is_read() -> None:
    """No row has a form that the test above would pass over, and no term stands twice."""
    rows = [
        line for line in GLOSSARY.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| term"))
    ]

    assert len(rows) == len(TERMS) == len({row["term"] for row in TERMS})


@pytest.mark.parametrize("word", WORDS["identifiers"])
def test_a_word_that_was_given_up_is_in_no_identifier(word: str) -> None:
    """An identifier uses the field's term; what is left of ours becomes less, never more."""
    rule = WORDS["identifiers"][word]

    assert identifiers()[word] <= rule.get("left", 0), f"say {rule['say']!r}"


@pytest.mark.parametrize("phrase", WORDS["prose"])
def test_a_phrase_that_was_given_up_is_in_no_text(phrase: str) -> None:
    """Docs, docstrings and comments use the field's terms; what is left of ours becomes less, never more."""
    rule = WORDS["prose"][phrase]
    found = re.findall(rf"\b(?:{phrase})\b", prose())

    assert len(found) <= rule.get("left", 0), f"say {rule['say']!r}"


def test_one_name_is_one_class() -> None:
    """No two classes of core and the plugins have one name, but for those that ``words.toml`` gives a reason for."""
    names = Counter(name for name, _ in classes())
    twins = {name for name, count in names.items() if count > 1}

    assert twins == WORDS["twins"].keys(), [row for row in classes() if row[0] in twins]
