"""Options of the URL's query and of the config table ``[mongo]``."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from queuekit.durations import Seconds

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
"""Options of pymongo's that say how an app reads its own documents. Ours are read in one way, whatever they say."""
PASSTHROUGH = frozenset(_DRIVER) | {name.lower() for name in _DRIVER} | UNUSED
"""Query options that are pymongo's business, as its documentation writes them and in lower case."""

_positive: Any = attrs.validators.gt(0)
_not_negative: Any = attrs.validators.ge(0)


@attrs.frozen(kw_only=True)
class MongoOptions:
    """How the deployment is used, and what is kept there."""

    queuekit_passthrough: ClassVar[frozenset[str]] = PASSTHROUGH

    prefix: str = attrs.field(default="queuekit", validator=attrs.validators.matches_re(r"[A-Za-z0-9_-]{1,60}"))
    """First part of the names of all collections: two apps with different ones do not see each other."""
    timeout: Seconds = attrs.field(default=5.0, validator=_positive)
    """Seconds without an answer after which a call fails, a new primary being looked for meanwhile."""
    change_streams: bool = True
    """Whether to be woken by change streams where there are any; otherwise by looking again and again."""
    transactions: bool = True
    """Whether to finish tasks in transactions where there are any; otherwise by writes in order."""
    dedup_window: Seconds = attrs.field(default=300.0, validator=_not_negative)
    """Seconds that the id of a message is remembered after it is done, as a small document."""
