"""Options of the URL's query and of the config table ``[redis]``."""

from __future__ import annotations

from typing import Any

import attrs

from queuekit.durations import Seconds
from queuekit.tls import TLSOptions

__all__ = ["RedisOptions"]

TEN_YEARS = 315_360_000.0
"""Longest duration, in seconds: the scripts store whole seconds in 32 bits, which end in 2106."""
_positive: Any = attrs.validators.gt(0)
_not_negative: Any = attrs.validators.ge(0)
_bounded: Any = attrs.validators.and_(_positive, attrs.validators.le(TEN_YEARS))
_number_of_connections: Any = attrs.validators.and_(attrs.validators.ge(2), attrs.validators.le(65_535))


@attrs.frozen(kw_only=True)
class RedisOptions(TLSOptions):
    """Options of the connection and of the stored data.

    Attributes:
        ca_file: File with the certificates of trusted CAs, in PEM format; default: those of the system.
        cert_file: File with the client's certificate, in PEM format, if the server requires one.
        key_file: File with the key of the client's certificate, in PEM format; default: the key is in ``cert_file``.
        verify: What to check of the server: ``full``: that a trusted CA signed its certificate, and that it names the
            host of the URL; ``ca``: only that a trusted CA signed it; ``none``: nothing, which protects only against
            passive eavesdropping.
        db: Number of the database, unless the URL's path names it.
        username: User, unless the URL names it before its host.
        password: Password, unless the URL names it before its host.
        key_prefix: First part of every key; apps with different prefixes do not see each other's data.
        timeout: Seconds without an answer after which a call fails; for blocking calls, from their expected end.
        connect_timeout: Most seconds to open a connection.
        max_connections: Most connections of one broker or backend in one process (on a Cluster: to each node); at least
            2, since one may be blocked by a wait.
        client_name: Name of the connections in ``CLIENT LIST``.
        dedup_window: Seconds that the id of a message is remembered after its end, at about 130 bytes each.
        dead_max_age: Seconds after which a dead letter is discarded and counted; default: never.
        dead_max_count: Most dead letters of a queue; beyond that, the oldest are discarded and counted.
        tls: Whether to use TLS with ``redis+sentinel://`` and ``redis+cluster://``; ``rediss://`` always uses it.
        sentinel_username: User for the Sentinels, if they require one.
        sentinel_password: Password for the Sentinels.
    """

    db: int | None = attrs.field(default=None, validator=attrs.validators.optional(_not_negative))
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    key_prefix: str = attrs.field(default="queuekit", validator=attrs.validators.matches_re(r"[A-Za-z0-9_.:-]{1,60}"))
    timeout: Seconds = attrs.field(default=5.0, validator=_bounded)
    connect_timeout: Seconds = attrs.field(default=2.0, validator=_bounded)
    max_connections: int = attrs.field(default=64, validator=_number_of_connections)
    client_name: str = attrs.field(default="queuekit", validator=attrs.validators.matches_re(r"[!-~]{0,60}"))
    dedup_window: Seconds = attrs.field(
        default=300.0, validator=attrs.validators.and_(_not_negative, attrs.validators.le(TEN_YEARS))
    )
    dead_max_age: Seconds | None = attrs.field(default=None, validator=attrs.validators.optional(_positive))
    dead_max_count: int | None = attrs.field(default=None, validator=attrs.validators.optional(_not_negative))
    tls: bool = False
    sentinel_username: str | None = None
    sentinel_password: str | None = attrs.field(default=None, repr=False)
