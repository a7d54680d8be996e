"""URLs of brokers and backends: parsed once, with the password never shown."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs

from queuekit.errors import ConfigError

__all__ = ["SCHEME", "EngineURL", "is_secret", "mask"]

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
"""What a scheme may look like, in lower case."""

_WORDS = r"(?:password|passwd|passphrase|pwd|secret|token|credential|api[_-]?key|access[_-]?key|private[_-]?key)"
_SECRET = re.compile(_WORDS, re.IGNORECASE)
# Up to the last "@" of all: a password with a raw "/", "?" or "#" is a mistake, but hidden all the same.
_PASSWORD = re.compile(r"(?<=://)([^/?#:]*):.*@", re.DOTALL)
_PASSWORD_ONLY = re.compile(r"^([^/?#:]*):.*@", re.DOTALL)
# MongoDB carries session tokens inside this one option.
_SECRET_OPTION = re.compile(rf"([?&][^=&]*(?:{_WORDS}|authMechanismProperties)[^=&]*=)[^&]*", re.IGNORECASE)
_HOST = re.compile(r"(?:[^:]*|\[[^\]]*\])(?::\d*)?", re.ASCII)


def mask(url: str) -> str:
    """Return *url* with passwords, in the authority and in the query, replaced by ``***``."""
    password = _PASSWORD if "://" in url else _PASSWORD_ONLY
    return _SECRET_OPTION.sub(r"\1***", password.sub(r"\1:***@", url))


def is_secret(name: str) -> bool:
    """Tell whether a setting of that *name* holds a password, token or key, by the words in it."""
    return _SECRET.search(name) is not None


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

    def hide(self, text: str) -> str:
        """Return *text*, e.g. a client library's error, without this URL's password."""
        text = text.replace(self.raw, str(self))
        encoded = urlsplit(self.raw).netloc.rpartition("@")[0].partition(":")[2]
        secrets = [encoded, self.password, *(value for key, value in self.query.items() if is_secret(key))]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text

    @classmethod
    def parse(cls, raw: str, *, setting: str = "url") -> EngineURL:
        """Take *raw* apart; *setting* names it in errors.

        Raises:
            ConfigError: It has no scheme, or one that cannot be, or its user, password or hosts cannot be told apart.
        """
        scheme, separator, _ = raw.partition("://")
        if not separator or not SCHEME.fullmatch(scheme.lower()):
            fix = "Write e.g. redis://host/0 or sqlite:///file"
            raise ConfigError(f"{setting} has no scheme", where=_where(raw, setting), fix=fix)
        parts = _split(raw, setting)
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


def _where(raw: str, setting: str) -> str:
    return f'{setting} = "{mask(raw)}"' if raw else ""


def _split(raw: str, setting: str) -> SplitResult:
    """Split *raw*, refusing what would put a part of the password among the hosts."""
    try:
        parts = urlsplit(raw)
    except ValueError:
        parts = None
    if parts is not None and _has_hosts(parts, raw):
        return parts
    # Without the cause: its text quotes the authority, password and all.
    raise ConfigError(
        f"{setting} is not a URL whose hosts can be read",
        where=_where(raw, setting),
        fix="In user and password write / as %2F, ? as %3F, # as %23, : as %3A, @ as %40",
    )


def _has_hosts(parts: SplitResult, raw: str) -> bool:
    userinfo, _, hosts = parts.netloc.rpartition("@")
    if not userinfo and hosts.startswith(":") and "@" in raw:
        return False  # a password of digits, cut off at its first "/"
    return all(_HOST.fullmatch(host) for host in hosts.split(","))
