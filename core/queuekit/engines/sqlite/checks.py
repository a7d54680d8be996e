"""Checks the location of the file: whether other users can replace it, and whether it has room to grow."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

__all__ = ["exposures", "short_of_room"]

ROOM = 64_000_000
"""Free bytes below which an operator is warned: the write-ahead log alone may take that much."""


def exposures(written: str, path: str) -> list[str]:
    """Return the ways in which other users can substitute their own file, one line each.

    Args:
        written: The path as given.
        path: The path with symbolic links resolved.
    """
    links = [one for one in _upwards(written) if one.is_symlink() and (one == Path(written) or _is_open(one.parent))]
    nearest = (Path(written).parent, Path(path).parent)
    folders = dict.fromkeys([*_upwards(written)[1:], *_upwards(path)[1:]])
    # With the sticky bit, others cannot replace an existing file, but they can create it first.
    opened = [folder for folder in folders if _is_open(folder, sticky=folder in nearest)]
    return [
        *(
            f"{link} is a symbolic link to {link.resolve()}: anyone who can change it chooses the file"
            for link in links
        ),
        *(f"every user can write to {folder}, and so replace {path} with another file" for folder in opened),
    ]


def _upwards(path: str) -> list[Path]:
    return [Path(path), *Path(path).parents]


def _is_open(folder: Path, *, sticky: bool = True) -> bool:
    """Return whether every user may write to *folder*; with *sticky*, also if users may only change their own files."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return False
    return bool(mode & stat.S_IWOTH) and (sticky or not mode & stat.S_ISVTX)


def short_of_room(path: str) -> list[str]:
    """Return a line if the disk is nearly full."""
    try:
        free = shutil.disk_usage(Path(path).parent).free
    except OSError:
        return []
    return (
        [] if free >= ROOM else [f"only {free / 1e6:.1f} MB are free on the disk of {path}: sends fail when it is full"]
    )
