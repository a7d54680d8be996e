"""Reads the address of the service from a URL; opens nothing, and imports no client library."""

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
    """Where the service is, how to sign in, and how the names of what is ours begin."""

    region: str | None
    """AWS region; ``None`` leaves it to the environment and the profile."""
    endpoint: str | None
    """Address of an emulator or a VPC endpoint; ``None`` for AWS itself."""
    prefix: str
    profile: str | None = None
    username: str | None = None
    """Access key id, where the URL has one."""
    password: str | None = attrs.field(default=None, repr=False)
    """Secret access key."""

    @property
    def emulated(self) -> bool:
        """Whether requests go without TLS, as to nothing but an emulator: it takes any credentials."""
        return self.endpoint is not None and self.endpoint.startswith("http://")


def read_target(url: EngineURL, options: SqsOptions | DynamoOptions) -> Target:
    """Return where *url* leads.

    Raises:
        ConfigError: It names neither a region nor a host, or a prefix that no name can begin with.
    """
    service, plus, protocol = url.scheme.partition("+")
    example = f"{service}://eu-west-1/shop" if not plus else f"{url.scheme}://localhost:4566/shop"
    if len(url.hosts) != 1:
        raise _unreadable(url, "names several hosts" if url.hosts else "names no region or host", example)
    prefix = url.path.strip("/")
    if not _PREFIX.fullmatch(prefix):
        raise _unreadable(url, "has a path that cannot begin a name: up to 60 of A-Z a-z 0-9 _ . -", example)
    (host,) = url.hosts
    if not plus and not _REGION.fullmatch(host):
        raise _unreadable(url, f"has {host!r} where the region should be", example)
    return Target(
        region=options.region if plus else host,
        endpoint=f"{protocol}://{host}" if plus else None,
        prefix=prefix,
        profile=options.profile,
        username=url.username,
        password=url.password,
    )


def _unreadable(url: EngineURL, what: str, example: str) -> ConfigError:
    return ConfigError(f"a {url.scheme} URL that {what}", where=f'  url = "{url}"', fix=f"Write e.g. {example}")
