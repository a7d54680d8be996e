"""Messages, and their encoding to bytes and back.

The body is a frame (see :mod:`queuekit.envelope`). Its header holds ``v, id, task, ct`` (the serializer) and the
options that the caller set. Its payload, written by the serializer, holds ``args``, ``kwargs`` and follow-ups.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from queuekit.envelope import MAX_HEADER_BYTES, Envelope, join_frame, split_frame, split_header
from queuekit.errors import DecodeError, EncodeError, NotReadHereError, TooLargeError
from queuekit.ids import is_name
from queuekit.retry import LONGEST, MOST_RETRIES, Backoff, policy_from_dict
from queuekit.serializer import Serializer
from queuekit.signature import Signature
from queuekit.values import quick_frozen, quickly
from queuekit.wire.merges import Merge, read_merge
from queuekit.wire.position import Gather, Position, read_gather, read_position
from queuekit.wire.signing import Signing

__all__ = ["LITTLE", "Message", "decode", "encode", "id_in", "outline", "peek_position", "sealed", "signing_encoder"]

VERSION = 1
_CARRIED = ("headers", "retries", "timeout", "ignore_result", "on_unknown", "broker", "delay")
# The header as encode() writes it when the caller set no options: recognised without a JSON parser.
_START = rb'\{"v":1,"id":"([A-Za-z0-9_.:-]{1,120})","task":"([A-Za-z0-9_.:-]{1,120})","ct":"([a-z0-9]{1,20})"'
_END = rb'(?:,"sig":"[0-9a-f]{8}\.[A-Za-z0-9+/]{43}")?\}\n'
_USUAL = re.compile(_START + _END)
# The same of a part of a workflow: the message that it follows, and workflow, node and, in a group, member.
_PART = re.compile(
    _START
    + rb'(?:,"parent":"([A-Za-z0-9_.:-]{1,120})")?'
    + rb',"flow":\["([A-Za-z0-9_:-]{1,120})",(0|[1-9][0-9]{0,8})(?:,(0|[1-9][0-9]{0,8}))?\]'
    + _END
)
_NEWEST = 1_000_000
"""Highest number that counts as a version; beyond it the header is malformed."""
_CONTENT_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+/-]{0,59}")
_MOST_LINKS = 1_000
"""Most follow-ups per outcome."""
_LONGEST_HEADER = MAX_HEADER_BYTES - 100
"""Longest header line that is written: a signature must still fit in."""
LITTLE = 10_000
"""Bytes of a body up to which :meth:`Message.close` keeps the values, since dropping them saves too little."""
_NO_OPTIONS: dict[str, Any] = {}
_NOTHING: list[Any] = []


@quick_frozen(kw_only=True)
class Message:
    """One call of a task, decoded from an envelope. ``None`` leaves an option to the task as registered at the worker.

    A :func:`sealed` message has no arguments and no follow-ups until it is opened.
    """

    id: str
    task: str
    args: list[Any] = attrs.field(repr=False)
    kwargs: dict[str, Any] = attrs.field(repr=False)
    headers: dict[str, str]
    parent: str | None = None
    retries: int | None = None
    retry: Backoff | None = None
    timeout: float | None = None
    ignore_result: bool | None = None
    on_unknown: str | None = None
    """What a worker does that does not know the task; another word than it knows means the default."""
    broker: dict[str, Any] | None = None
    """Options of the broker's service."""
    delay: float | None = None
    """Seconds from the first send until it was due."""
    on_success: tuple[Signature[Any], ...] = attrs.field(default=(), repr=False)
    on_error: tuple[Signature[Any], ...] = attrs.field(default=(), repr=False)
    link: Position | None = None
    """Its position in a workflow, if something follows it."""
    gather: Gather | None = None
    """The group whose results are its last argument."""
    limits: dict[str, str] | None = None
    """Its keys by the names of the limits of its task; ``None`` if the sender did not know the task."""
    merge: Merge | None = None
    """Its unique key, if that lets the newest arguments win."""
    each: bool = False
    """Whether its single argument is a list of argument lists, run one after the other."""
    source: tuple[Serializer, bytes, int] | None = attrs.field(default=None, eq=False, repr=False)
    """Serializer of the payload, body, and offset of the payload; ``None`` if nothing is left to read."""
    is_open: bool = attrs.field(default=True, eq=False, repr=False)
    """Whether arguments and follow-ups have been read."""

    def open(self) -> None:
        """Read arguments and follow-ups, unless already done.

        Raises:
            DecodeError: The payload is not one that :func:`encode` writes.
        """
        if self.is_open or self.source is None:
            return
        serializer, body, start = self.source
        payload = serializer.loads(body[start:])
        me: Any = self  # frozen for type checkers; only open() and close() write to it
        if type(payload) is dict and len(payload) == 1 and type(payload.get("args")) is list:
            me.args, me.kwargs, me.is_open = payload["args"], {}, True  # fast path: most payloads hold only args
            return
        args, kwargs = _arguments(payload)
        if "on_success" in payload or "on_error" in payload:
            for role, links in _follow_ups(payload).items():
                setattr(me, role, links)
        me.args, me.kwargs, me.is_open = args, kwargs, True

    def calls(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield headers and arguments by name for each call of an open message; *names* are the task's parameters."""
        for args in self.args[0] if self.each and self.args else [self.args]:
            yield {**self.headers, **dict(zip(names, args, strict=False)), **self.kwargs}

    def close(self) -> None:
        """Drop arguments and follow-ups if they are large: they take several times the memory of their bytes."""
        if self.source is not None and len(self.source[1]) > LITTLE and self.is_open:
            me: Any = self  # as above
            me.args, me.kwargs, me.on_success, me.on_error, me.is_open = _NOTHING, _NO_OPTIONS, (), (), False


_message = quickly(Message)


def encode(
    signature: Signature[Any],
    *,
    id: str,
    serializer: Serializer,
    parent: str | None = None,
    parameters: Sequence[str] = (),
    link: Position | None = None,
    gather: Gather | None = None,
    limits: Mapping[str, str] | None = None,
    merge: Merge | None = None,
) -> bytes:
    """Return the body for *signature*.

    Args:
        signature: The call.
        id: Id of the message.
        serializer: Writes the payload.
        parent: Id of the message that this one follows.
        parameters: Names of the task's parameters, for errors.
        link: Its position in a workflow.
        gather: The group whose results it receives.
        limits: Its keys by the names of the limits of its task.
        merge: Its unique key, if that lets the newest arguments win.

    Raises:
        EncodeError: An argument cannot be written; names the task, the argument and the path inside it.
        TooLargeError: Headers and other options are longer than workers read.
    """
    payload: dict[str, Any] = {}
    if signature.args:
        payload["args"] = list(signature.args)
    if signature.kwargs:
        payload["kwargs"] = signature.kwargs
    if signature.on_success or signature.on_error:
        payload |= _links(signature)
    try:
        data = serializer.dumps(payload)
    except EncodeError as error:
        raise _blame(signature, serializer, parameters, error) from error
    content_type = serializer.content_type
    usual = parent is None and link is None and gather is None and limits is None and merge is None
    if usual and _is_usual(signature):
        # Written by hand, since it is cheaper: names need no escaping in JSON, and a delay is a finite float.
        later = "" if signature.delay is None else f',"delay":{signature.delay!r}'
        return f'{{"v":1,"id":"{id}","task":"{signature.task}","ct":"{content_type}"{later}}}\n'.encode() + data
    places: dict[str, Any] = {"parent": parent, "flow": link and link.header(), "gather": gather, "lim": limits}
    places |= {"each": signature.each or None, "merge": merge and merge.header()}
    return _head(signature, id, content_type, places) + data


def signing_encoder(signing: Signing) -> Callable[..., bytes]:
    """Return :func:`encode` with a signature of what it returns."""

    def encode_signed(signature: Signature[Any], **options: Any) -> bytes:
        return signing.signed_message(encode(signature, **options))

    return encode_signed


def _links(signature: Signature[Any]) -> dict[str, Any]:
    """Return the follow-ups of *signature* as its payload holds them."""
    roles = {"on_success": signature.on_success, "on_error": signature.on_error}
    return {role: [link.to_dict() for link in links] for role, links in roles.items() if links}


def _is_usual(signature: Signature[Any]) -> bool:
    """Return whether the caller set no options that the header carries, except for a delay."""
    plain = signature.retries is None and signature.timeout is None and signature.ignore_result is None
    single = signature.broker is None and signature.on_unknown is None and not signature.each
    return plain and single and signature.retry is None and not signature.headers


def _head(signature: Signature[Any], id: str, content_type: str, places: Mapping[str, Any]) -> bytes:
    """Return the header line."""
    placed = {key: value for key, value in places.items() if value is not None}
    options = {key: value for key in _CARRIED if (value := getattr(signature, key)) is not None and value != {}}
    if signature.retry is not None:
        options["retry"] = signature.retry.to_dict()
    line = join_frame({"v": VERSION, "id": id, "task": signature.task, "ct": content_type, **options, **placed}, b"")
    if len(line) > _LONGEST_HEADER:
        raise TooLargeError(
            f"headers and options of {signature.task}() have {len(line):,} bytes, the limit is {_LONGEST_HEADER:,}",
            fix="Send large data as an argument",
        )
    return line


def _blame(
    signature: Signature[Any], serializer: Serializer, parameters: Sequence[str], error: EncodeError
) -> EncodeError:
    """Return an error that names the argument that cannot be written."""
    named = [*zip([*parameters, *map(str, range(len(signature.args)))], signature.args, strict=False)]
    for name, value in [*named, *signature.kwargs.items()]:
        try:
            serializer.dumps(value)
        except EncodeError as inner:
            text = inner.what if inner.what.startswith((".", "[")) else f": {inner.what}"
            return EncodeError(
                f"{signature.task}() argument {name!r}{text}",
                fix="Send plain data, an attrs class or a dataclass, or choose another serializer",
            )
    return EncodeError(f"{signature.task}(): {error.what}")


def decode(envelope: Envelope, serializers: Mapping[str, Serializer]) -> Message:
    """Return the message in *envelope*, whose bytes are untrusted.

    Args:
        envelope: The envelope as the broker delivered it.
        serializers: The accepted serializers, by content type; the message cannot choose another.

    Raises:
        DecodeError: The body is not one that :func:`encode` writes.
        NotReadHereError: A newer release wrote it, or its serializer is not accepted.
    """
    message = sealed(envelope, serializers)
    message.open()
    return message


def sealed(envelope: Envelope, serializers: Mapping[str, Serializer]) -> Message:
    """Return the message in *envelope* with its payload unread; :meth:`Message.open` reads it.

    Raises:
        DecodeError: Its header is not one that :func:`encode` writes.
        NotReadHereError: A newer release wrote it, or its serializer is not accepted.
    """
    id, body = envelope.id, envelope.body
    usual = _USUAL.match(body)
    if usual is not None:
        named, task, content_type = usual.groups()
        serializer = serializers.get(content_type.decode())
        if serializer is not None and named.decode() == id:
            return _message(
                id=id,
                task=task.decode(),
                args=_NOTHING,
                kwargs=_NO_OPTIONS,
                headers={},
                source=(serializer, body, usual.end()),
                is_open=False,
            )
    else:
        part = _sealed_part(id, body, serializers)
        if part is not None:
            return part
    header, start = split_header(body)
    task, content_type = _checked(header, envelope), header.get("ct")
    if not isinstance(content_type, str):
        raise DecodeError("no content type in the header")
    options = _options(header)
    serializer = serializers.get(content_type)
    if serializer is None:
        kind = NotReadHereError if _CONTENT_TYPE.fullmatch(content_type) else DecodeError
        raise kind(f"content type {content_type[:40]!r} is not accepted here")
    source = (serializer, body, start)
    return Message(id=id, task=task, args=_NOTHING, kwargs=_NO_OPTIONS, source=source, is_open=False, **options)


def _sealed_part(id: str, body: bytes, serializers: Mapping[str, Serializer]) -> Message | None:
    """Return the message of a part of a workflow whose header is as usual; ``None`` for any other."""
    usual = _PART.match(body)
    if usual is None:
        return None
    named, task, content_type, parent, graph, node, member = usual.groups()
    serializer = serializers.get(content_type.decode())
    if serializer is None or named.decode() != id:
        return None
    return _message(
        id=id,
        task=task.decode(),
        args=_NOTHING,
        kwargs=_NO_OPTIONS,
        headers={},
        parent=None if parent is None else parent.decode(),
        link=Position(graph.decode(), int(node), None if member is None else int(member)),
        source=(serializer, body, usual.end()),
        is_open=False,
    )


def _arguments(payload: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments in a payload."""
    if type(payload) is not dict:
        raise DecodeError("the payload is not an object")
    args, kwargs = payload.get("args", _NOTHING), payload.get("kwargs", {})
    if type(args) is not list or type(kwargs) is not dict or (kwargs and not all(type(key) is str for key in kwargs)):
        raise DecodeError("args is not a list, or kwargs is not an object with text keys")
    return args, kwargs


def _checked(header: dict[str, Any], envelope: Envelope) -> str:
    """Return the task's name from *header*, after checking version, id and task."""
    version = header.get("v")
    if type(version) is not int or not 1 <= version <= _NEWEST:
        raise DecodeError("no version in the header")
    if version > VERSION:
        raise NotReadHereError(f"message version {version}; this release reads {VERSION}")
    task = header.get("task")
    if header.get("id") != envelope.id or not isinstance(task, str) or not is_name(task):
        raise DecodeError("no valid id and task in the header")
    return task


def _follow_ups(payload: dict[str, Any]) -> dict[str, Any]:
    links: dict[str, Any] = {}
    for role in ("on_success", "on_error"):
        listed = payload.get(role, [])
        if type(listed) is not list or len(listed) > _MOST_LINKS:
            raise DecodeError(f"{role} is not a list of signatures")
        links[role] = tuple(Signature.from_dict(link) for link in listed)
    return links


_OPTION_TYPES: dict[str, tuple[type, ...]] = {
    "parent": (str,),
    "retries": (int,),
    "timeout": (int, float),
    "delay": (int, float),
    "ignore_result": (bool,),
    "on_unknown": (str,),
    "broker": (dict,),
    "retry": (dict,),
}
_BOUNDS = {"timeout": LONGEST, "delay": LONGEST, "retries": MOST_RETRIES}


def peek_position(envelope: Envelope) -> Position | None:
    """Return the position in a workflow of a message that cannot be decoded, if its header can be read."""
    try:
        return read_position(split_frame(envelope.body)[0].get("flow"))
    except DecodeError:
        return None


def id_in(body: bytes) -> str:
    """Return the id in an untrusted body; empty if there is none."""
    try:
        id = split_header(body)[0].get("id")
    except DecodeError:
        return ""
    return id if isinstance(id, str) else ""


def outline(envelope: Envelope) -> Message:
    """Return the readable parts of a message that cannot be decoded here: id, task and position in a workflow."""
    try:
        header, _ = split_frame(envelope.body)
    except DecodeError:
        header = {}
    task = header.get("task")
    named = task if isinstance(task, str) and is_name(task) else ""
    delay: Any = header.get("delay")
    known = delay if type(delay) in _OPTION_TYPES["delay"] and 0 <= delay <= LONGEST else None
    place = peek_position(envelope) if "flow" in header else None
    return Message(id=envelope.id, task=named, args=[], kwargs={}, headers={}, delay=known, link=place)


def _options(header: dict[str, Any]) -> dict[str, Any]:
    """Return the validated options of a header."""
    headers = header.get("headers", {})
    if type(headers) is not dict or not all(type(value) is str for value in headers.values()):
        raise DecodeError("headers is not an object with text values")
    options: dict[str, Any] = {"headers": headers}
    for key, kinds in _OPTION_TYPES.items():
        value = header.get(key)
        if value is not None and type(value) not in kinds:
            raise DecodeError(f"{key} in the header has the wrong type")
        options[key] = value
    _check_bounds(options)
    if options["retry"] is not None:
        options["retry"] = policy_from_dict(options["retry"])
    options["link"], options["gather"] = read_position(header.get("flow")), read_gather(header.get("gather"))
    options["each"], options["limits"] = header.get("each") is True, _limits(header.get("lim"))
    options["merge"] = read_merge(header.get("merge"))
    return options


def _limits(keys: Any) -> dict[str, str] | None:
    """Return the keys of a message by limit."""
    if keys is None:
        return None
    if type(keys) is not dict or not all(type(key) is str for key in keys.values()):
        raise DecodeError("lim in the header is not an object with text values")
    return keys


def _check_bounds(options: dict[str, Any]) -> None:
    for name, most in _BOUNDS.items():
        if options[name] is not None and not 0 <= options[name] <= most:
            raise DecodeError(f"{name} in the header is out of bounds")
