"""Create the table if it is missing, write it in transactions, and read it in batches, with retries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from typing import Any

from queuekit.errors import TooLargeError, UnavailableError, bare
from queuekit.layouts import other_layout
from queuekit.rounds import in_rounds
from queuekit.timelimit import time_left
from queuekit_sqs.backoff import pauses
from queuekit_sqs.failures import code_of, is_passing, is_uncertain, text_of
from queuekit_sqs.items import LAYOUT, LAYOUT_KEY, Item, Op
from queuekit_sqs.request_pool import RequestPool
from queuekit_sqs.service import Service

__all__ = ["Table"]

_MOST_WRITES, _MOST_BYTES = 100, 2_600_000
_MOST_READS = 100
_TRIES = 8
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_LONGEST_CREATION = 60.0
_LONGEST_UPDATE = 5.0
_FAILED_CONDITION = frozenset({"ConditionalCheckFailed", "ConditionalCheckFailedException"})
_IS_NEW = "attribute_not_exists(pk)"
_MISSING = "ResourceNotFoundException"
_INVALID = "ValidationException"
_TTL = {"AttributeName": "expires_at", "Enabled": True}


class Table:
    """One table of DynamoDB.

    Args:
        service: Makes the requests.
        name: Name of the table.
        create: Whether to create the table if it is missing.
        pool: Runs requests in parallel.
        random: Adds jitter to the pauses between tries.
    """

    def __init__(self, service: Service, name: str, *, create: bool, pool: RequestPool, random: Random) -> None:
        self.name = name
        self._service = service
        self._create = create
        self._pool = pool
        self._random = random
        self._is_known = False
        """Whether the table exists and has the layout of this release."""

    # -- requests

    def call(self, operation: str, /, **parameters: Any) -> dict[str, Any]:
        """Make a request for this table; create the table first if it is missing.

        Raises:
            UnavailableError: The service did not answer, or refused; its cause is the library's error.
        """
        doing = self._doing(operation)
        self._check_layout()
        try:
            return self._service.call(operation, doing=doing, **parameters)
        except UnavailableError as error:
            if error.__cause__ is None or code_of(error.__cause__) != _MISSING:
                raise
            self._make(error)
        return self._service.call(operation, doing=doing, tries=_TRIES, **parameters)

    def _once(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Make a request once, or twice if the table is missing; raise the library's own errors."""
        self._check_layout()
        try:
            return self._service.request(operation, **parameters)
        except Exception as error:
            if code_of(error) != _MISSING:
                raise
            self._make(self._service.failed(error, doing=self._doing(operation)))
        return self._service.request(operation, **parameters)

    def _check_layout(self) -> None:
        """Check, once, that the layout has the version of this release; write the version to a new table.

        Raises:
            UnavailableError: The layout has another version.
        """
        if self._is_known:
            return
        self._is_known = True  # set it first: the calls below also check it
        try:
            found = self._read_part([LAYOUT_KEY]) or self._lay_out()
        except BaseException:
            self._is_known = False
            raise
        version = found[0].get("layout_version", {}).get("N", "")
        if version != str(LAYOUT):
            self._is_known = False
            where = f"{self._service.url}, table {self.name},"
            raise other_layout(where, found=version[:20], known=LAYOUT, elsewhere="set another table prefix")

    def _lay_out(self) -> list[Item]:
        """Write the version of the layout, unless another client does so first; return the stored item."""
        item = {**LAYOUT_KEY, "layout_version": {"N": str(LAYOUT)}}
        try:
            self._once("put_item", {"TableName": self.name, "Item": item, "ConditionExpression": _IS_NEW})
        except Exception as error:
            if code_of(error) not in _FAILED_CONDITION:
                raise self._service.failed(error, doing=self._doing("put_item")) from error
            return self._read_part([LAYOUT_KEY])
        return [item]

    def _doing(self, operation: str) -> str:
        action = "".join(part.capitalize() for part in operation.split("_"))
        return f"dynamodb:{action} on {self.name}"

    def _pauses(self) -> Iterator[float]:
        return pauses(self._random, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)

    # -- writing

    def write(self, ops: Sequence[Op]) -> list[bool]:
        """Apply *ops*, each with its condition in one step, in transactions of up to 100; return which were applied."""
        done = [False] * len(ops)
        for places in in_rounds([op.key for op in ops]):
            chunks = _chunks(ops, places)
            answers = self._pool.map([partial(self._write_chunk, [ops[n] for n in chunk]) for chunk in chunks])
            for chunk, answer in zip(chunks, answers, strict=True):
                for index, written in zip(chunk, answer, strict=True):
                    done[index] = written
        return done

    def _write_chunk(self, ops: list[Op]) -> list[bool]:
        """Write *ops* together; then, one by one, those that conflict with other clients."""
        done = self._write_together(ops)
        for index in range(len(ops)):
            if index in done:
                continue
            if len(ops) == 1:
                raise UnavailableError(f"{self._doing('put_item')} failed: other clients keep writing the same record")
            # Single writes conflict less often.
            (done[index],) = self._write_chunk([ops[index]])
        return [done[index] for index in range(len(ops))]

    def _write_together(self, ops: list[Op]) -> dict[int, bool]:
        """Write *ops* together; leave out those that a condition forbids, and retry the others.

        Returns:
            Whether each decided operation was written, by index.
        """
        done: dict[int, bool] = {}
        left = list(range(len(ops)))
        rests = self._pauses()
        again = False
        for attempt in range(_TRIES):
            decided, uncertain = self._try([ops[index] for index in left], again=again, last=attempt == _TRIES - 1)
            again = again or uncertain
            done.update({left[place]: written for place, written in decided.items()})
            left = [index for index in left if index not in done]
            if not left:
                break
            if not decided:
                time.sleep(next(rests))
        return done

    def _try(self, ops: list[Op], *, again: bool, last: bool) -> tuple[dict[int, bool], bool]:
        """Write *ops* in one step; return the decision per index, and whether it may have succeeded unanswered."""
        try:
            self._transact(ops, again=again)
        except Exception as error:
            decided = self._refused(error, ops)
            if code_of(error) == _INVALID:
                # The keys are valid, because the layout was read with them, so the items are at fault.
                raise TooLargeError(f"DynamoDB refuses a record: {text_of(error)[:200]}") from error
            if decided is None and (last or not is_passing(error)):
                raise self._service.failed(error, doing=self._doing("transact_write_items")) from bare(error)
            return decided or {}, decided is None and is_uncertain(error)
        return dict.fromkeys(range(len(ops)), True), False

    def _transact(self, ops: list[Op], *, again: bool) -> None:
        show = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"} if again else {}
        if len(ops) == 1:
            (op,) = ops
            operation = "put_item" if op.verb == "Put" else "delete_item"
            self._once(operation, {"TableName": self.name, **op.fields, **show})
            return
        items = [{op.verb: {"TableName": self.name, **op.fields, **show}} for op in ops]
        self._once("transact_write_items", {"TransactItems": items})

    def _refused(self, error: Exception, ops: list[Op]) -> dict[int, bool] | None:
        """Return what *error* decides, by index: refused, or already written; ``None`` if it decides nothing."""
        response: dict[str, Any] = getattr(error, "response", None) or {}
        if code_of(error) in _FAILED_CONDITION:
            return {0: _is_own(response.get("Item"), ops[0])}
        reasons = response.get("CancellationReasons") or []
        if code_of(error) != "TransactionCanceledException" or len(reasons) != len(ops):
            return None
        refused = _decided(reasons, ops)
        codes = {str(reason.get("Code")) for reason in reasons} - {"None", *_FAILED_CONDITION}
        if not refused and "ValidationError" in codes:
            raise TooLargeError(f"DynamoDB refuses a record: {_first_message(reasons)}") from error
        return refused

    # -- reading

    def read(self, keys: Sequence[Item]) -> list[Item]:
        """Return the current items of those *keys* that exist."""
        parts = [keys[start : start + _MOST_READS] for start in range(0, len(keys), _MOST_READS)]
        found = self._pool.map([partial(self._read_part, list(part)) for part in parts])
        return [item for items in found for item in items]

    def _read_part(self, keys: list[Item]) -> list[Item]:
        found: list[Item] = []
        rests = self._pauses()
        for _ in range(_TRIES + len(keys)):
            asked = {self.name: {"Keys": keys, "ConsistentRead": True}}
            reply = self.call("batch_get_item", RequestItems=asked)
            items = reply.get("Responses", {}).get(self.name, [])
            found += items
            keys = reply.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            if not keys:
                return found
            if not items:
                time.sleep(next(rests))
        raise UnavailableError(f"{self._doing('batch_get_item')} failed: {len(keys)} keys remain unread")

    # -- the table itself

    def expires(self) -> bool:
        """Return whether DynamoDB removes expired items; ask again for a while if another client just made the table.

        Time to live is off in a new table, and whoever creates it turns it on a moment later.
        """
        deadline = time.monotonic() + time_left(_LONGEST_UPDATE)
        while not (on := self._expires()) and time.monotonic() < deadline:
            time.sleep(time_left(0.5))
        return on

    def _expires(self) -> bool:
        reply = self.call("describe_time_to_live", TableName=self.name)
        return reply.get("TimeToLiveDescription", {}).get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}

    def _make(self, problem: UnavailableError) -> None:
        """Create the table, or raise an error if that is not allowed."""
        if not self._create:
            raise UnavailableError(
                f"the DynamoDB table {self.name!r} is missing, and create is false",
                where=f"  {self._service.url}",
                fix="Create it with keys pk and sk (both strings) and TTL on 'expires_at', or set create = true",
                passing=False,
            ) from problem
        keys = (("pk", "HASH"), ("sk", "RANGE"))
        self._ask(
            "create_table",
            unless="ResourceInUseException",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
            BillingMode="PAY_PER_REQUEST",
        )
        self._until(self._is_active)
        self._ask("update_time_to_live", unless="ValidationException", TimeToLiveSpecification=_TTL)

    def _ask(self, operation: str, *, unless: str, **parameters: Any) -> None:
        """Make a request for the table; ignore the error code *unless*: another client was first."""
        try:
            self._service.call(operation, doing=self._doing(operation), TableName=self.name, **parameters)
        except UnavailableError as error:
            if error.__cause__ is None or code_of(error.__cause__) != unless:
                raise

    def _is_active(self) -> bool:
        reply = self._service.call("describe_table", doing=self._doing("describe_table"), TableName=self.name)
        return bool(reply["Table"]["TableStatus"] in {"ACTIVE", "UPDATING"})

    def _until(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + time_left(_LONGEST_CREATION)
        while not ready():
            if time.monotonic() >= deadline:
                raise UnavailableError(f"the DynamoDB table {self.name!r} is still being created")
            time.sleep(time_left(0.5))


def _chunks(ops: Sequence[Op], places: Sequence[int]) -> list[list[int]]:
    chunks: list[list[int]] = []
    size = 0
    for place in places:
        if not chunks or size + ops[place].size > _MOST_BYTES or len(chunks[-1]) == _MOST_WRITES:
            chunks.append([])
            size = 0
        chunks[-1].append(place)
        size += ops[place].size
    return chunks


def _decided(reasons: Sequence[dict[str, Any]], ops: Sequence[Op]) -> dict[int, bool]:
    """Return the operations that a cancelled transaction refused, by index; true if one was already written."""
    return {
        place: _is_own(reason.get("Item"), op)
        for place, (reason, op) in enumerate(zip(reasons, ops, strict=True))
        if reason.get("Code") in _FAILED_CONDITION
    }


def _is_own(item: Item | None, op: Op) -> bool:
    """Return whether *op* itself wrote the existing item, in a try that got no reply."""
    return bool(item and op.writer and item.get("written_by", {}).get("S") == op.writer)


def _first_message(reasons: list[dict[str, Any]]) -> str:
    return next((str(reason["Message"]) for reason in reasons if reason.get("Message")), "no reason given")
