"""URLs of brokers and backends: parsed once; the password is never shown."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, quote_plus, unquote, urlsplit

import attrs

from queuekit.errors import ConfigError
from queuekit.values import frozen

__all__ = ["SCHEME", "EngineURL", "is_secret", "mask"]

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
"""Pattern of a valid scheme, in lower case."""

_WORDS = r"(?:password|passwd|passphrase|pwd|secret|token|credential|api[_-]?key|access[_-]?key|private[_-]?key)"
_SECRET = re.compile(_WORDS, re.IGNORECASE)
# The last one may contain session tokens (MongoDB).
_SECRET_OPTION = re.compile(rf"{_WORDS}|authMechanismProperties", re.IGNORECASE)
# A value with an unescaped "&" extends to the next name.
_OPTION = re.compile(r"(?<=[?&;])([^=&;?]*)=[^&]*(?:&(?![^=&]*=)[^&]*)*")
_CLEAN_USER = re.compile(r"[^/?#@]*")
_OF_FILES = frozenset({"sqlite"})
"""Schemes whose URLs name a file, by a path that may be relative."""
_HOST = re.compile(r"(?:[^:]*|\[[^\]]*\])(?::\d*)?", re.ASCII)


def mask(url: str) -> str:
    """Return *url* with everything that is or may be secret replaced by ``***``.

    This covers passwords in the authority and in the query, even with an unescaped ``/``, ``?``, ``#`` or ``@``, and a
    user name that may be a misplaced password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    userinfo, at, hosts = rest.rpartition("@")
    if at and (":" in userinfo or separator) and not (separator and _names_file(scheme, rest)):
        user, colon, _ = userinfo.partition(":")
        userinfo = f"{user}:***" if colon and _CLEAN_USER.fullmatch(user) else "***"
    return f"{scheme}{separator}{_OPTION.sub(_masked_option, f'{userinfo}{at}{hosts}')}"


def _masked_option(found: re.Match[str]) -> str:
    return f"{found[1]}=***" if _SECRET_OPTION.search(unquote(found[1])) else found[0]


def _names_file(scheme: str, rest: str) -> bool:
    """Return whether a URL has a path and no hosts; an ``@`` in it is an ordinary character."""
    kind = scheme.strip().lower()
    return rest.startswith("/") and (kind in _OF_FILES or kind.endswith("+unix"))


def is_secret(name: str) -> bool:
    """Return whether a setting called *name* holds a password, token or key, judging by its words."""
    return _SECRET.search(name) is not None


@frozen(kw_only=True)
class EngineURL:
    """A broker's or backend's URL, parsed; it may have several hosts, and ``repr`` hides the password.

    Attributes:
        raw: The URL as written, with the password: for the client library only.
        scheme: Scheme in lower case, which chooses the plugin.
        hosts: Each ``host`` or ``host:port``, in order; empty for ``sqlite:///file``.
        username: May be a misplaced password, so it is not shown.
        password: Password, percent-decoded; ``None`` if there is none.
        path: Path with its leading slash, percent-decoded.
        query: Options by name, percent-decoded; default: none.
    """

    raw: str = attrs.field(repr=mask)
    scheme: str
    hosts: tuple[str, ...]
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    path: str = ""
    query: dict[str, str] = attrs.field(factory=dict, repr=False)

    def __str__(self) -> str:
        return mask(self.raw)

    def hide(self, text: str) -> str:
        """Return *text*, e.g. a client library's error, without the secrets of this URL."""
        text = text.replace(self.raw, str(self))
        user, _, encoded = urlsplit(self.raw).netloc.rpartition("@")[0].partition(":")
        # Without a password, the user may be a misplaced one.
        alone = [user, self.username] if self.password is None else []
        options = [value for key, value in self.query.items() if _SECRET_OPTION.search(key)]
        secrets = [encoded, self.password, *alone, *options, *map(quote_plus, options), *map(quote, options)]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text

    def placed(self, folder: Path) -> EngineURL:
        """Return this URL with a relative file path, as in ``sqlite:///jobs.db``, made absolute from *folder*."""
        path = self.path[1:]
        # Absolute paths, paths from the home folder and ":memory:" are not relative.
        if self.scheme not in _OF_FILES or self.hosts or not path or path[0] in "/~:" or "\0" in path:
            return self
        whole = os.path.normpath(folder.absolute() / path)
        head, mark, query = self.raw.partition("?")
        scheme = head.partition("://")[0]
        raw = f"{scheme}:///{quote(whole, errors='surrogateescape')}{mark}{query}"
        return attrs.evolve(self, raw=raw, path=f"/{whole}")

    @classmethod
    def parse(cls, raw: str, *, setting: str = "url") -> EngineURL:
        """Parse *raw*; *setting* names it in errors.

        Raises:
            ConfigError: It has no valid scheme, or its user, password and hosts are ambiguous.
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
    """Split *raw*; reject a URL in which a part of the password would be read as a host."""
    try:
        parts = urlsplit(raw)
    except ValueError:
        parts = None
    if parts is not None and _has_hosts(parts) and not _has_stray_at(parts, raw):
        return parts
    # Raised without the cause, whose text quotes the authority with the password.
    raise ConfigError(
        f"{setting}: the hosts of the URL cannot be read",
        where=_where(raw, setting),
        fix="In user and password write / as %2F, ? as %3F, # as %23, : as %3A, @ as %40",
    )


def _has_hosts(parts: SplitResult) -> bool:
    hosts = parts.netloc.rpartition("@")[2]
    return all(_HOST.fullmatch(host) for host in hosts.split(","))


def _has_stray_at(parts: SplitResult, raw: str) -> bool:
    """Return whether an ``@`` follows the authority: then the authority may end in the middle of a password."""
    rest = raw.partition("://")[2]
    return "@" in rest.removeprefix(parts.netloc) and not _names_file(parts.scheme, rest)
