"""One vocabulary: the glossary names what exists, and words that were given up do not come back.

What is still to be renamed stands in ``words.toml`` with a count, which may only be lowered.
"""

import ast
import importlib
import io
import re
import tokenize
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
def identifiers() -> Counter[str]:
    """Return how often each word is a part of an identifier, in core and the plugins."""
    found: Counter[str] = Counter()
    for path in [*CORE, *PLUGINS]:
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            if token.type == tokenize.NAME:
                found.update({part.lower() for part in PART.findall(token.string)})
    return found


@cache
def prose() -> str:
    """Return the pages of the documentation, and all docstrings and comments of core and the plugins."""
    return "\n".join([*(path.read_text(encoding="utf-8") for path in PAGES), *texts()])


def texts() -> Iterator[str]:
    """Yield docstrings and comments."""
    for path in [*CORE, *PLUGINS]:
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""')):
                yield token.string


def classes() -> Iterator[tuple[str, str]]:
    """Yield the name and the file of each class at the top of a module of core or a plugin, private ones left out."""
    for path in [*CORE, *PLUGINS]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        yield from ((name, path.name) for name in names if not name.startswith("_"))


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
