"""Options of the URL's query and of the config table ``[mongo]``."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from queuekit.durations import Seconds
from queuekit.tls import TLSOptions

__all__ = ["PASSTHROUGH", "UNUSED", "MongoOptions"]

_DRIVER = [
    "appName",
    "authMechanism",
    "authMechanismProperties",
    "authSource",
    "compressors",
    "connectTimeoutMS",
    "directConnection",
    "enableOverloadRetargeting",
    "heartbeatFrequencyMS",
    "journal",
    "loadBalanced",
    "localThresholdMS",
    "maxAdaptiveRetries",
    "maxConnecting",
    "maxIdleTimeMS",
    "maxPoolSize",
    "maxStalenessSeconds",
    "minPoolSize",
    "readPreference",
    "readPreferenceTags",
    "replicaSet",
    "retryReads",
    "retryWrites",
    "serverMonitoringMode",
    "serverSelectionTimeoutMS",
    "socketTimeoutMS",
    "srvAllowedHostsSuffix",
    "srvMaxHosts",
    "srvServiceName",
    "ssl",
    "tls",
    "tlsAllowInvalidCertificates",
    "tlsAllowInvalidHostnames",
    "tlsCAFile",
    "tlsCertificateKeyFile",
    "tlsCertificateKeyFilePassword",
    "tlsCRLFile",
    "tlsDisableOCSPEndpointCheck",
    "tlsInsecure",
    "w",
    "waitQueueTimeoutMS",
    "wTimeoutMS",
    "zlibCompressionLevel",
]
_UNUSED = ["readConcernLevel", "uuidRepresentation"]
UNUSED = frozenset(_UNUSED) | {name.lower() for name in _UNUSED}
"""Options of pymongo about how an app reads its own documents; queuekit ignores them."""
PASSTHROUGH = frozenset(_DRIVER) | {name.lower() for name in _DRIVER} | UNUSED
"""Query options that pymongo handles, in the spelling of its documentation and in lower case."""

_positive: Any = attrs.validators.gt(0)
_not_negative: Any = attrs.validators.ge(0)


@attrs.frozen(kw_only=True)
class MongoOptions(TLSOptions):
    """Options of the connection and of the stored data.

    Attributes:
        ca_file: File with the certificates of trusted CAs, in PEM format; default: those of the system.
        cert_file: File with the client's certificate, in PEM format, if the server requires one.
        key_file: File with the key of the client's certificate, in PEM format; default: the key is in ``cert_file``.
        verify: What to check of the server: ``full``: that a trusted CA signed its certificate, and that it names the
            host of the URL; ``ca``: only that a trusted CA signed it; ``none``: nothing, which protects only against
            passive eavesdropping.
        prefix: First part of the names of all collections; apps with different prefixes do not see each other's data.
        timeout: Seconds without an answer after which a call fails; includes the search for a new primary.
        change_streams: Whether workers are notified by change streams, if available; otherwise they poll.
        transactions: Whether to finish tasks in transactions, if available; otherwise by several writes in order.
        dedup_window: Seconds that the id of a message is remembered after its end, in a small document.
    """

    queuekit_passthrough: ClassVar[frozenset[str]] = PASSTHROUGH

    prefix: str = attrs.field(default="queuekit", validator=attrs.validators.matches_re(r"[A-Za-z0-9_-]{1,60}"))
    timeout: Seconds = attrs.field(default=5.0, validator=_positive)
    change_streams: bool = True
    transactions: bool = True
    dedup_window: Seconds = attrs.field(default=300.0, validator=_not_negative)
