"""Read deployment and database from a URL; opens no connection, and imports no client library."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from queuekit.errors import ConfigError
from queuekit.urls import EngineURL
from queuekit_mongo.options import PASSTHROUGH, UNUSED

__all__ = ["DEFAULT_DATABASE", "client_url", "database_name", "engine_id"]

DEFAULT_DATABASE = "queuekit"
_PORT = ":27017"
_DATABASE = re.compile(r"[A-Za-z0-9_-]{1,60}", re.ASCII)
_EXAMPLE = "Write e.g. mongodb://user:password@localhost:27017/jobs"


def database_name(url: EngineURL) -> str:
    """Return the database that *url* names; ``queuekit`` if it names none.

    Raises:
        ConfigError: It names no host, or its database name or ``w`` is not valid.
    """
    if not url.hosts:
        raise ConfigError(f"a {url.scheme} URL must name a host", where=f'  url = "{url}"', fix=_EXAMPLE)
    name = url.path.strip("/") or DEFAULT_DATABASE
    if not _DATABASE.fullmatch(name):
        what = f"a {url.scheme} URL with an invalid database name: {name!r}"
        raise ConfigError(what, where=f'  url = "{url}"', fix="Use 1 to 60 characters of A-Z a-z 0-9 _ -")
    if (written := url.query.get("w", "")).isdigit() and int(written) == 0:
        what = "w=0 loses messages without an error"
        raise ConfigError(what, where=f'  url = "{url}"', fix="Remove it: majority is the default")
    return name


def client_url(url: EngineURL) -> str:
    """Return *url* for pymongo, with its password: without queuekit's own options, and those that it ignores."""
    parts = urlsplit(url.raw)
    used = PASSTHROUGH - UNUSED
    theirs = [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key in used]
    path = parts.path or "/"
    return urlunsplit((parts.scheme.lower(), parts.netloc, path, urlencode(theirs), ""))


def engine_id(url: EngineURL, prefix: str) -> str:
    """Return an id of the hosts, database and prefix: equal for equal URLs, whatever the user."""
    hosts = sorted(host.lower().removesuffix(_PORT) for host in url.hosts)
    return f"{url.scheme}:{','.join(hosts)}/{database_name(url)}/{prefix}"
