"""The runner of code blocks finds what is wrong with a page; without that its silence would mean nothing."""

from pathlib import Path

import pytest
from sybil.example import SybilFailure

from support import pages

GOOD = """
```python
# numbers_of_page.py
def double(x):
    return 2 * x
```

- in a list:

  ```python
  four = double(2)
  ```

```python
>>> four
4
```

```console
$ python -c 'import numbers_of_page as n; print(n.double(3), "and more")'
6 and ...
$ pip install something-that-does-not-exist
```

```toml
# conf/queuekit.toml
broker = "memory://"
```

```console
$ cat conf/queuekit.toml
# conf/queuekit.toml
broker = "memory://"
```
"""

BAD = {
    "exception": ("```python\n1 / 0\n```\n", ZeroDivisionError),
    "output": ("```python\n>>> 1 + 1\n3\n```\n", SybilFailure),
    "printed": ("```console\n$ echo 1\n2\n```\n", SybilFailure),
    "exit-code": ("```console\n$ false\n```\n", SybilFailure),
    "expected-error": ("```console\n$ echo Error 1\nError 1\n```\n", SybilFailure),
    "no-command": ("```console\nqueuekit\n```\n", SybilFailure),
    "toml": ("```toml\na = \n```\n", ValueError),
    "json": ("```json\n{\n```\n", ValueError),
    "language": ("```ruby\nputs 1\n```\n", SybilFailure),
    "no-language": ("```\n1\n```\n", SybilFailure),
    "directive": ("```{code-block} python\n1 / 0\n```\n", SybilFailure),
}


@pytest.fixture
def write(tmp_path: Path) -> Path:
    """Return where to put a page."""
    return tmp_path / "page.md"


def test_runs_a_good_page(write: Path, tmp_path: Path) -> None:
    """Names, files and outputs carry over from block to block."""
    write.write_text(GOOD, encoding="utf-8")

    document = pages.read(write)
    pages.run(document, tmp_path)

    assert document.namespace["four"] == 4


@pytest.mark.parametrize(("text", "error"), BAD.values(), ids=BAD.keys())
def test_finds_what_is_wrong(write: Path, tmp_path: Path, text: str, error: type[Exception]) -> None:
    """A page that says something untrue fails."""
    write.write_text(text, encoding="utf-8")

    with pytest.raises(error):
        pages.run(pages.read(write), tmp_path)
