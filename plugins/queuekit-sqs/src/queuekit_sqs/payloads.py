"""Store bodies that are too large for SQS in S3; the message holds a pointer (a claim check)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import attrs

from queuekit.errors import UnavailableError
from queuekit_sqs.failures import code_of
from queuekit_sqs.request_pool import RequestPool
from queuekit_sqs.service import Service

__all__ = ["Payloads", "Unread"]

_MOST_DELETED = 1_000
_LONGEST_NAME = 200
"""Most characters. Names of queuekit are far shorter, and a name that S3 refuses would stop a batch."""
_GONE = frozenset({"NoSuchKey", "404"})
_NO_RULES = frozenset({"NoSuchLifecycleConfiguration"})


@attrs.frozen
class Unread:
    """The reason why there is no body, for operators."""

    why: str


class Payloads:
    """Objects in one bucket.

    Args:
        service: Makes the S3 client; called at first use.
        bucket: The bucket; others are never read, whatever a message says.
        prefix: Prefix of the names of objects.
        pool: Runs requests in parallel.
        limit: Returns the largest size in bytes of an object to read.
    """

    def __init__(
        self, service: Callable[[], Service], *, bucket: str, prefix: str, pool: RequestPool, limit: Callable[[], int]
    ) -> None:
        self._service = service
        self._bucket = bucket
        self._prefix = prefix
        self._pool = pool
        self._limit = limit

    def keep(self, bodies: Sequence[bytes]) -> list[str]:
        """Store *bodies* and return a pointer to each, for its message."""
        names = [f"{self._prefix}{uuid.uuid4()}" for _ in bodies]
        self._pool.map([partial(self._put, name, body) for name, body in zip(names, bodies, strict=True)])
        return [json.dumps({"bucket": self._bucket, "key": name}) for name in names]

    def fetch(self, pointers: Sequence[str]) -> list[bytes | Unread | UnavailableError]:
        """Return for each pointer its body, the reason why there is none, or the error that prevents reading it now."""
        return self._pool.map([partial(self._get, pointer) for pointer in pointers])

    def drop(self, pointers: Iterable[str]) -> None:
        """Delete the bodies of *pointers*."""
        names = [name for pointer in pointers if (name := self._name(pointer)) is not None]
        for start in range(0, len(names), _MOST_DELETED):
            objects = [{"Key": name} for name in names[start : start + _MOST_DELETED]]
            self._service().call(
                "delete_objects",
                doing=f"s3:DeleteObject in {self._bucket}",
                Bucket=self._bucket,
                Delete={"Objects": objects, "Quiet": True},
            )

    def check(self) -> list[str]:
        """Return a line if no lifecycle rule removes bodies that a killed process left behind."""
        doing = f"s3:GetLifecycleConfiguration of {self._bucket}"
        try:
            reply = self._service().call("get_bucket_lifecycle_configuration", doing=doing, Bucket=self._bucket)
        except UnavailableError as error:
            if error.__cause__ is None or code_of(error.__cause__) not in _NO_RULES:
                return [error.what]
            reply = {}
        if any(_expires(rule, self._prefix) for rule in reply.get("Rules", [])):
            return []
        rule = f"a lifecycle rule that expires '{self._prefix}*' 28 days after your longest delay"
        return [f"the bucket {self._bucket!r} keeps bodies that a killed process leaves in it forever. Add {rule}"]

    def _put(self, name: str, body: bytes) -> None:
        doing = f"s3:PutObject in {self._bucket}"
        self._service().call("put_object", doing=doing, Bucket=self._bucket, Key=name, Body=body)

    def _get(self, pointer: str) -> bytes | Unread | UnavailableError:
        name = self._name(pointer)
        if name is None:
            return Unread(f"its pointer does not name an object of payload_bucket {self._bucket!r}")
        service, doing = self._service(), f"s3:GetObject in {self._bucket}"

        def read() -> dict[str, object]:
            reply = service.request("get_object", Bucket=self._bucket, Key=name)
            with closing(reply["Body"]) as stream:
                # A larger object is foreign; do not read it.
                size, most = int(reply.get("ContentLength", 0)), self._limit()
                return {"body": stream.read() if size <= most else _too_large(name, size, most)}

        try:
            body: bytes | Unread = service.ask(read, doing=doing)["body"]
        except UnavailableError as error:
            if error.__cause__ is None or code_of(error.__cause__) not in _GONE:
                return error
            where = f"s3://{self._bucket}/{name}"
            return Unread(f"its body ({where}) is gone: a copy of the message has run, or a lifecycle rule deleted it")
        return body

    def _name(self, pointer: str) -> str | None:
        """Return the object's name if *pointer* is valid and in the bucket and prefix; else ``None``."""
        try:
            place = json.loads(pointer)
            bucket, name = place["bucket"], place["key"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        ours = bucket == self._bucket and isinstance(name, str) and name.startswith(self._prefix)
        return name if ours and name.isprintable() and len(name) <= _LONGEST_NAME else None


def _too_large(name: str, size: int, most: int) -> Unread:
    return Unread(f"its body in S3 ({name}) has {size:,} bytes, the limit is {most:,}")


def _expires(rule: Mapping[str, Any], prefix: str) -> bool:
    """Return whether a lifecycle rule eventually removes all objects under *prefix*."""
    chosen = rule.get("Filter", rule)
    narrow = chosen.get("And", chosen)
    everything = not ({"Tag", "Tags", "ObjectSizeGreaterThan", "ObjectSizeLessThan"} & narrow.keys())
    return (
        rule.get("Status") == "Enabled"
        and "Expiration" in rule
        and everything
        and prefix.startswith(narrow.get("Prefix") or "")
    )
