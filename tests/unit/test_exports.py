"""What ``from queuekit import ...`` offers: few names, in order, each of them there."""

import ast
from pathlib import Path

import queuekit

MOST_NAMES = 30


def test_exports_few_names() -> None:
    """The front door has at most thirty names; the rest is imported from its module."""
    assert 0 < len(queuekit.__all__) <= MOST_NAMES


def test_exports_are_sorted() -> None:
    """The names stand in alphabetical order, each once, so that two changes seldom touch one line."""
    assert list(queuekit.__all__) == sorted(set(queuekit.__all__))


def test_exports_exist() -> None:
    """Each exported name can be had."""
    missing = [name for name in queuekit.__all__ if not hasattr(queuekit, name)]

    assert not missing


def test_exports_all_that_it_imports() -> None:
    """What the front door imports without an underscore is meant for others, so it is exported."""
    tree = ast.parse(Path(queuekit.__file__).read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "__future__"]
    own = [alias for node in nodes if (node.module or "").startswith("queuekit") for alias in node.names]

    names = {alias.asname or alias.name for alias in own}

    assert names <= set(queuekit.__all__)
