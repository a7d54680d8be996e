"""Translations of other projects' URLs and setting values, used only for hints in errors."""

from __future__ import annotations

import re

from queuekit.urls import EngineURL

__all__ = ["instead_of", "meant_by"]

_SCHEMES = {
    **dict.fromkeys(("redis+socket", "redis-socket", "redissocket", "socket", "unix"), "redis+unix"),
    **dict.fromkeys(("sentinel", "redis-sentinel", "redissentinel"), "redis+sentinel"),
    **dict.fromkeys(("redis-cluster", "rediscluster"), "redis+cluster"),
    **dict.fromkeys(("valkey", "redis+tcp", "tcp"), "redis"),
    **dict.fromkeys(("valkeys", "redis+tls", "redis+ssl"), "rediss"),
    "valkey+unix": "redis+unix",
    "mongo": "mongodb",
    **dict.fromkeys(("pyamqp", "librabbitmq", "rabbitmq", "amqp+tcp"), "amqp"),
    **dict.fromkeys(("rabbitmqs", "amqp+ssl", "amqp+tls"), "amqps"),
    **dict.fromkeys(("pymemcache", "cache+memcached", "pylibmc"), "memcache"),
    **dict.fromkeys(("memcaches", "memcached+tls", "memcache+ssl"), "memcache+tls"),
    "memcached+unix": "memcache+unix",
    **dict.fromkeys(("sqla+sqlite", "db+sqlite", "sqlite3", "file", "filesystem"), "sqlite"),
}
"""Our scheme for the same service, by scheme of another project."""
_SERVICES = {
    **dict.fromkeys(("postgres", "postgresql", "db+postgresql", "sqla+postgresql", "psycopg"), "PostgreSQL"),
    **dict.fromkeys(("mysql", "db+mysql", "sqla+mysql"), "MySQL"),
    **dict.fromkeys(("gcppubsub", "pubsub"), "Google Cloud Pub/Sub"),
    **dict.fromkeys(("kafka", "confluentkafka"), "Kafka"),
}
"""Services without a plugin of queuekit, by scheme."""
_KEEPS_RESULTS = frozenset({"dynamodb"})
_NO_RESULTS = frozenset({"null", "nil", "no", "off", "false", "disabled", "disable", "-", "rpc"})
_EAGER = frozenset({"eager", "sync", "always_eager"})
_EXAMPLES = {
    "redis": "redis://localhost:6379/0",
    "sqlite": "sqlite:///queue.db",
    "memory": "memory://",
    "mongodb": "mongodb://localhost:27017/jobs",
    "mongo": "mongodb://localhost:27017/jobs",
    "amqp": "amqp://localhost:5672/",
    "rabbitmq": "amqp://localhost:5672/",
    "memcache": "memcache://localhost:11211",
    "memcached": "memcache://localhost:11211",
    "sqs": "sqs://eu-west-1/shop",
    "dynamodb": "dynamodb://eu-west-1/shop",
}
_AWS = re.compile(r"(?:.*\.)?(sqs|dynamodb)[.-]([a-z]{2}(?:-[a-z]+)+-\d)\..*|([a-z]{2}(?:-[a-z]+)+-\d)\.(queue)\..*")


def instead_of(url: EngineURL, side: str) -> str:
    """Return the fix for *url* as *side*, ``"broker"`` or ``"backend"``; empty if unknown."""
    if url.scheme in {"http", "https"}:
        return _of_aws(url, side)
    if url.scheme in _SCHEMES:
        return f"Write {_SCHEMES[url.scheme]}:// here"
    if url.scheme in _EAGER | _NO_RESULTS:
        return meant_by(url.scheme, side)
    if url.scheme in _SERVICES:
        return f"queuekit has no plugin for {_SERVICES[url.scheme]}: use an available one, or write a plugin"
    return ""


def meant_by(word: str, side: str) -> str:
    """Return the expected value in place of *word*, which is not a URL; empty if unknown."""
    word = word.strip().lower()
    if word in _EAGER:
        return "eager = true, which runs tasks where they are sent"
    if side == "backend" and word in _NO_RESULTS:
        return f'"none" for no results, or {_EXAMPLES["sqlite"]}'
    return _EXAMPLES.get(word, "")


def _of_aws(url: EngineURL, side: str) -> str:
    """Return the fix for an HTTP address of AWS, or of an emulator."""
    host = url.hosts[0] if url.hosts else "host"
    found = _AWS.fullmatch(host.partition(":")[0].lower())
    if found is None:
        service = "dynamodb" if side == "backend" else "sqs"
        return f"For SQS, DynamoDB or an emulator write e.g. {service}+{url.scheme}://{host}/PREFIX"
    service = found[1] or "sqs"
    where = f"{service}://{found[2] or found[3]}/PREFIX"
    if service in _KEEPS_RESULTS and side == "broker":
        return f'DynamoDB keeps results: set  backend = "{where}"'
    return f"Write {where}"
