"""Report problems of the server that may lose or refuse data."""

from __future__ import annotations

from typing import Any

from redis.exceptions import NoPermissionError

from queuekit.errors import UnavailableError
from queuekit_redis.engine import Engine

__all__ = ["check"]

OLDEST = (6, 2)
_FULL = 0.9
"""Share of maxmemory from which on the check warns."""
_LOOPBACK = ("localhost", "127.", "::1", "[::1]")


def check(engine: Engine) -> list[str]:
    """Return the problems of the server, one line each."""
    problems = [*_exposed(engine), *_unused(engine)]
    for node in engine.server.nodes():
        where = f"{node}: " if node else ""
        problems += [where + line for line in _server(engine, node)]
    return list(dict.fromkeys(problems))


def _server(engine: Engine, node: str) -> list[str]:
    """Return the problems of one server."""
    try:
        info = _info(engine, node)
    except UnavailableError as error:
        if not isinstance(error.__cause__, NoPermissionError):
            raise
        return ["cannot check whether the server keeps its data: allow this user INFO (ACL: +info)"]
    return [*_version(info), *_eviction(info), *_room(info), *_persistence(engine, node, info)]


def _info(engine: Engine, node: str) -> dict[str, str]:
    """Return the fields of the server's INFO."""
    commands = [("INFO", part) for part in ("server", "memory", "persistence")]
    text = "\n".join(reply.decode("utf-8", "replace") for reply in engine.server.call_node(node, commands))
    rows = (line.strip().partition(":") for line in text.splitlines() if ":" in line and not line.startswith("#"))
    return {name: value for name, _, value in rows}


def _version(info: dict[str, str]) -> list[str]:
    if "valkey_version" in info:
        return []
    version = info.get("redis_version", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if not numbers or numbers >= OLDEST:
        return []
    return [f"the server is Redis {version}; queuekit needs 6.2 or later"]


def _room(info: dict[str, str]) -> list[str]:
    """Return a line for each reason why the server refuses writes, or may do so soon."""
    lines = []
    for name, what in (("rdb_last_bgsave_status", "snapshot"), ("aof_last_write_status", "write to its log")):
        if info.get(name, "ok") != "ok":
            lines.append(f"its last {what} failed, and it may refuse sends: check its disk and its log")
    used, most = (_number(info.get(name)) for name in ("used_memory", "maxmemory"))
    if most and used > most * _FULL:
        lines.append(f"its memory is almost full: {used / 1e6:.0f} of {most / 1e6:.0f} MB (maxmemory) are in use")
    return lines


def _number(text: str | None) -> float:
    return float(text) if text is not None and text.isdigit() else 0.0


def _eviction(info: dict[str, str]) -> list[str]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return []
    return [f"maxmemory-policy is {policy}: a full server deletes messages and results; it should be noeviction"]


def _persistence(engine: Engine, node: str, info: dict[str, str]) -> list[str]:
    if info.get("aof_enabled", "1") == "1":
        return []
    if _snapshots(engine, node):
        return ["appendonly is no: a crash of the server loses all changes since its last snapshot; it should be yes"]
    return ["the server stores nothing on disk: a restart loses all messages and results; appendonly should be yes"]


def _snapshots(engine: Engine, node: str) -> bool:
    """Return whether the server writes snapshots; assume so if it does not show its config."""
    try:
        reply: Any = engine.server.call_node(node, [("CONFIG", "GET", "save")])[0]
    except UnavailableError:
        return True  # managed servers often do not allow CONFIG
    return len(reply) < 2 or bool(reply[1].strip())  # noqa: PLR2004 - name and value


def _unused(engine: Engine) -> list[str]:
    options = engine.options
    if not options.names_files or options.tls or engine.url.scheme == "rediss":
        return []
    return ["ca_file, cert_file and key_file have no effect without TLS: use rediss://, or tls = true"]


def _exposed(engine: Engine) -> list[str]:
    url = engine.url
    local = all(host.startswith(_LOOPBACK) for host in url.hosts)
    bare = url.password is None and engine.options.password is None
    if bare or local or url.scheme == "rediss" or engine.options.tls or url.scheme == "redis+unix":
        return []
    return ["the password crosses the network unencrypted: use rediss://, or tls = true"]
