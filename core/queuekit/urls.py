"""URLs of brokers and backends: parsed once, with the password never shown."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from queuekit.errors import ConfigError

__all__ = ["EngineURL", "mask"]

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_PASSWORD = re.compile(r"(?<=://)(?P<user>[^/?#@]*?):(?P<password>[^/?#]*)@")
_SECRET_OPTION = re.compile(r"(?i)([?&](?:[a-z0-9_]*(?:password|passwd|secret|token|apikey|api_key)[a-z0-9_]*)=)[^&#]*")


def mask(url: str) -> str:
    """Return *url* with passwords, in the authority and in the query, replaced by ``***``."""
    return _SECRET_OPTION.sub(r"\1***", _PASSWORD.sub(r"\g<user>:***@", url))


@attrs.frozen(kw_only=True)
class EngineURL:
    """A broker's or backend's URL, taken apart; lists of hosts are kept, and ``repr`` hides the password."""

    raw: str = attrs.field(repr=mask)
    """As written, password and all: for the client library only."""
    scheme: str
    hosts: tuple[str, ...]
    """Each ``host`` or ``host:port``, in order; empty for ``sqlite:///file``."""
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    path: str = ""
    """With its leading slash, percent-decoded."""
    query: dict[str, str] = attrs.field(factory=dict, repr=False)

    def __str__(self) -> str:
        return mask(self.raw)

    @classmethod
    def parse(cls, raw: str, *, setting: str = "url") -> EngineURL:
        """Take *raw* apart; *setting* names it in errors.

        Raises:
            ConfigError: It has no scheme, or one that cannot be.
        """
        scheme, separator, _ = raw.partition("://")
        if not separator or not SCHEME.fullmatch(scheme.lower()):
            where = "" if not raw else f"  {setting} = {mask(raw)!r}"
            raise ConfigError(f"{setting} has no scheme", where=where, fix="Write e.g. redis://host/0 or sqlite:///file")
        parts = urlsplit(raw)
        userinfo, at, hosts = parts.netloc.rpartition("@")
        user, colon, password = userinfo.partition(":")
        return cls(
            raw=raw,
            scheme=scheme.lower(),
            hosts=tuple(host for host in hosts.split(",") if host),
            username=unquote(user) if at and user else None,
            password=unquote(password) if colon else None,
            path=unquote(parts.path),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
        )
