"""Options of the URL's query and of the config table ``[redis]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs

from queuekit.durations import Seconds

__all__ = ["RedisOptions"]

TEN_YEARS = 315_360_000.0
"""Seconds: what the server counts in whole ones ends in 2106."""
_positive: Any = attrs.validators.gt(0)
_not_negative: Any = attrs.validators.ge(0)
_bounded: Any = attrs.validators.and_(_positive, attrs.validators.le(TEN_YEARS))
_number_of_connections: Any = attrs.validators.and_(attrs.validators.ge(2), attrs.validators.le(65_535))


@attrs.frozen(kw_only=True)
class RedisOptions:
    """How the server is reached, and what is kept there."""

    db: int | None = attrs.field(default=None, validator=attrs.validators.optional(_not_negative))
    """Number of the database, where the URL's path does not say it."""
    username: str | None = None
    """User, where the URL does not say it before its host."""
    password: str | None = attrs.field(default=None, repr=False)
    """Password, where the URL does not say it before its host."""
    key_prefix: str = attrs.field(default="queuekit", validator=attrs.validators.matches_re(r"[A-Za-z0-9_.:-]{1,60}"))
    """First part of every key: two apps with different ones do not see each other."""
    timeout: Seconds = attrs.field(default=5.0, validator=_bounded)
    """Seconds without an answer after which a call fails; blocking calls count from when they should have ended."""
    connect_timeout: Seconds = attrs.field(default=2.0, validator=_bounded)
    """Seconds to open a connection in."""
    max_connections: int = attrs.field(default=64, validator=_number_of_connections)
    """Most connections of one broker or backend in one process (of a Cluster: to each of its nodes); at least 2, since
    one may be waiting."""
    client_name: str = attrs.field(default="queuekit", validator=attrs.validators.matches_re(r"[!-~]{0,60}"))
    """What ``CLIENT LIST`` calls the connections."""
    dedup_window: Seconds = attrs.field(
        default=300.0, validator=attrs.validators.and_(_not_negative, attrs.validators.le(TEN_YEARS))
    )
    """Seconds that the id of a message is remembered after it is done, at about 130 bytes each."""
    dead_max_age: Seconds | None = attrs.field(default=None, validator=attrs.validators.optional(_positive))
    """Seconds after which a dead letter is discarded and counted; by default they are kept."""
    dead_max_count: int | None = attrs.field(default=None, validator=attrs.validators.optional(_not_negative))
    """Most dead letters of a queue; beyond it the oldest are discarded and counted."""
    ssl: bool = False
    """Whether to speak TLS to ``redis+sentinel://`` and ``redis+cluster://``; ``rediss://`` does by itself."""
    ssl_cert_reqs: Literal["required", "optional", "none"] = "required"
    """Whether the server's certificate must be valid; ``none`` protects from listeners only."""
    ssl_check_hostname: bool = True
    """Whether it must be made out to the host in the URL."""
    ssl_ca_certs: Path | None = None
    """File with the certificates of those who may sign it; by default the system's."""
    ssl_certfile: Path | None = None
    """File with our own certificate, where the server asks for one."""
    ssl_keyfile: Path | None = None
    """File with its key."""
    sentinel_username: str | None = None
    """User at the Sentinels, where they ask for one."""
    sentinel_password: str | None = attrs.field(default=None, repr=False)
    """Password at the Sentinels."""
