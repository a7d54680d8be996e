"""Options of the URL's query and of the config table ``[memcached]``."""

from __future__ import annotations

from typing import Any

import attrs

from queuekit.durations import Seconds
from queuekit.tls import TLSOptions
from queuekit_memcached.capabilities import ITEM_BYTES

__all__ = ["MemcachedOptions"]

_positive: Any = attrs.validators.gt(0)


def _within(least: int, most: int) -> Any:
    return attrs.validators.and_(attrs.validators.ge(least), attrs.validators.le(most))


@attrs.frozen(kw_only=True)
class MemcachedOptions(TLSOptions):
    """Options of the connections and of the stored data.

    Attributes:
        ca_file: File with the certificates of trusted CAs, in PEM format; default: those of the system.
        cert_file: File with the client's certificate, in PEM format, if the server requires one.
        key_file: File with the key of the client's certificate, in PEM format; default: the key is in ``cert_file``.
        verify: What to check of the server: ``full``: that a trusted CA signed its certificate, and that it names the
            host of the URL; ``ca``: only that a trusted CA signed it; ``none``: nothing, which protects only against
            passive eavesdropping.
        prefix: First part of every key; apps with different prefixes do not see each other's records.
        timeout: Seconds without an answer after which a call fails.
        connect_timeout: Most seconds to open a connection.
        max_connections: Most connections of one process to each server.
        max_item_bytes: Largest item of all servers, including its key: their option ``-I``. A server with a lower limit
            is reported at the first call.
    """

    prefix: str = attrs.field(default="queuekit", validator=attrs.validators.matches_re(r"[A-Za-z0-9_.:-]{1,60}"))
    timeout: Seconds = attrs.field(default=5.0, validator=_positive)
    connect_timeout: Seconds = attrs.field(default=2.0, validator=_positive)
    max_connections: int = attrs.field(default=16, validator=_within(1, 65_535))
    max_item_bytes: int = attrs.field(default=ITEM_BYTES, validator=_within(65_536, 1_073_741_824))
