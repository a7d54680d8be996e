"""Read the address of the service from a URL; opens no connection, and imports no client library."""

from __future__ import annotations

import re

import attrs

from queuekit.errors import ConfigError
from queuekit.urls import EngineURL
from queuekit_sqs.options import DynamoOptions, SqsOptions

__all__ = ["Target", "read_target"]

_REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+")
_PREFIX = re.compile(r"[A-Za-z0-9_.-]{0,60}")


@attrs.frozen(kw_only=True)
class Target:
    """Region or endpoint of the service, credentials, and prefix of the names of queues or the table."""

    region: str | None
    """AWS region; ``None``: the region of the environment or the profile."""
    endpoint: str | None
    """Address of an emulator or a VPC endpoint; ``None`` for AWS itself."""
    prefix: str
    profile: str | None = None
    username: str | None = None
    """Access key id, if the URL has one."""
    password: str | None = attrs.field(default=None, repr=False)
    """Secret access key."""

    @property
    def emulated(self) -> bool:
        """Whether requests use no TLS, which only an emulator supports; it accepts any credentials."""
        return self.endpoint is not None and self.endpoint.startswith("http://")


def read_target(url: EngineURL, options: SqsOptions | DynamoOptions) -> Target:
    """Return the service that *url* names.

    Raises:
        ConfigError: It names neither a region nor a host, or its prefix is not valid.
    """
    service, plus, protocol = url.scheme.partition("+")
    example = f"{service}://eu-west-1/shop" if not plus else f"{url.scheme}://localhost:4566/shop"
    if len(url.hosts) != 1:
        raise _unreadable(url, "names several hosts" if url.hosts else "names no region or host", example)
    prefix = url.path.strip("/")
    if not _PREFIX.fullmatch(prefix):
        raise _unreadable(url, "has a path that is not a valid prefix: up to 60 of A-Z a-z 0-9 _ . -", example)
    (host,) = url.hosts
    if not plus and not _REGION.fullmatch(host):
        raise _unreadable(url, f"has {host!r} instead of a region", example)
    return Target(
        region=options.region if plus else host,
        endpoint=f"{protocol}://{host}" if plus else None,
        prefix=prefix,
        profile=options.profile,
        username=url.username,
        password=url.password,
    )


def _unreadable(url: EngineURL, what: str, example: str) -> ConfigError:
    return ConfigError(f"the {url.scheme} URL {what}", where=f'  url = "{url}"', fix=f"Write e.g. {example}")
