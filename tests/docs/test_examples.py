"""Each program of ``docs/examples`` prints what stands at its top."""

import ast
import re
import shutil
import textwrap
from pathlib import Path

import pytest

from support.commands import python

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))


def promised(program: Path) -> str:
    """Return what *program* says that it prints."""
    docstring = ast.get_docstring(ast.parse(program.read_text(encoding="utf-8"))) or ""
    block = re.search(r"It prints::\n\n((?: {4}.*\n?)+)", docstring)
    assert block is not None, f"{program.name} does not say what it prints"
    return textwrap.dedent(block[1])


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_example_prints_what_it_says(program: Path, tmp_path: Path) -> None:
    """In a folder of its own, with the default engine."""
    shutil.copy(program, tmp_path)

    ended = python(f"import runpy; runpy.run_path({program.name!r}, run_name='__main__')", folder=tmp_path)

    assert (ended.stdout.strip(), ended.returncode) == (promised(program).strip(), 0), ended.stderr


def test_page_lists_all_examples() -> None:
    """And none that is not there."""
    page = (EXAMPLES / "index.md").read_text(encoding="utf-8")

    assert set(re.findall(r"\]\((\w+\.py)\)", page)) == {program.name for program in PROGRAMS}
