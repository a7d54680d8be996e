"""The options of a ``sqlite:///`` URL, and the path of its file."""

from __future__ import annotations

import os
import sqlite3
from typing import Literal

import attrs

from queuekit.errors import ConfigError, PluginError
from queuekit.urls import EngineURL
from queuekit.values import frozen

__all__ = ["SqliteOptions", "check_version", "database_path", "written_path"]

OLDEST = (3, 35, 0)
"""The oldest SQLite that supports all statements used here."""


@frozen
class SqliteOptions:
    """Options of the URL and of the config table ``[sqlite]``.

    Attributes:
        sync: ``"normal"``: a power cut may lose the last commits, a crash of a process none; ``"full"``: neither does.
        busy_timeout: Seconds to retry while other processes write, before a call fails with ``UnavailableError``.
        private: Whether to refuse a file that others can replace: in a folder that they can write to, or behind a link.
    """

    sync: Literal["normal", "full"] = attrs.field(default="normal", validator=attrs.validators.in_(("normal", "full")))
    busy_timeout: float = attrs.field(default=5.0, validator=attrs.validators.ge(0))
    private: bool = False


def written_path(url: EngineURL) -> str:
    """Return the absolute path of the file in *url*, with symbolic links unresolved."""
    return os.path.abspath(os.path.expanduser(url.path.removeprefix("/")))  # noqa: PTH100, PTH111 - not resolved


def database_path(url: EngineURL) -> str:
    """Return the absolute path of the file that *url* names, with symbolic links resolved.

    ``sqlite:///a.db`` is relative to the working directory, ``sqlite:////var/a.db`` is absolute.

    Raises:
        ConfigError: The URL does not name a file.
    """
    path = url.path.removeprefix("/")
    fix = "Write sqlite:///jobs.db, or sqlite:////var/lib/jobs.db for an absolute path"
    if url.hosts:
        raise ConfigError("a sqlite URL has three slashes before the file", where=f'  url = "{url}"', fix=fix)
    if not path or "\0" in path:
        raise ConfigError("a sqlite URL must name a file", where=f'  url = "{url}"', fix=fix)
    if path == ":memory:":
        fix = "Write memory:// for queues inside one process, or sqlite:///jobs.db"
        raise ConfigError("SQLite in memory cannot be shared", where=f'  url = "{url}"', fix=fix)
    return os.path.realpath(os.path.expanduser(path))  # noqa: PTH111 - realpath of a file that need not exist


def check_version(found: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Raise if SQLite is too old.

    Raises:
        PluginError: It is older than 3.35.
    """
    if found < OLDEST:
        shown = ".".join(map(str, found))
        raise PluginError(
            f"SQLite {shown} is too old for sqlite://; queuekit needs 3.35 or later",
            fix="Use a Python built with a newer SQLite, or another broker",
        )
