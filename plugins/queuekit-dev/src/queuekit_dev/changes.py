"""Which source files of a developer have changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import watchfiles

__all__ = ["changes_of"]

_CONFIG = (".toml", ".yaml", ".yml")
_LOOK = 200
"""Milliseconds between two looks at signals and at programs."""


def changes_of(folders: Sequence[Path]) -> Callable[[threading.Event], Iterator[Sequence[str]]]:
    """Return what yields the changed source files in *folders*, as they are changed, until an event is set.

    Python files and config files count, but not those in folders such as ``.git`` and ``.venv``.

    Args:
        folders: Folders to watch, with all that they contain.
    """
    only = watchfiles.PythonFilter(extra_extensions=_CONFIG)

    def changes(stop: threading.Event) -> Iterator[Sequence[str]]:
        found = watchfiles.watch(
            *folders, watch_filter=only, stop_event=stop, rust_timeout=_LOOK, yield_on_timeout=True
        )
        return (sorted({_shown(path) for _, path in changed}) for changed in found)

    return changes


def _shown(path: str) -> str:
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
