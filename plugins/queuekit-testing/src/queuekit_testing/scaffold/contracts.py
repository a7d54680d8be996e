"""The methods of a contract as source to fill in, with the signatures and docstrings of core's own source."""

from __future__ import annotations

import ast
import copy
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping

from queuekit.backend import Backend, BackendCapabilities, BackendLimits, Join, Page, Record
from queuekit.broker import (
    Ack,
    Broker,
    Capabilities,
    Dead,
    Delivery,
    Lease,
    Limits,
    QueueCounts,
    Release,
    Replace,
    Stored,
    Subscription,
)
from queuekit.envelope import Envelope, Lane, Unique
from queuekit.middleware import Middleware, SentMessage
from queuekit.serializer import Serializer

__all__ = ["capability_lines", "contract_text", "method_sources"]

_CONTRACTS: Mapping[str, type] = {
    "broker": Broker,
    "backend": Backend,
    "serializer": Serializer,
    "middleware": Middleware,
}
_DATA: Mapping[str, tuple[type, ...]] = {
    "broker": (
        Capabilities,
        Limits,
        Envelope,
        Unique,
        Lane,
        Delivery,
        Lease,
        Ack,
        Release,
        Replace,
        Dead,
        Stored,
        Page,
        QueueCounts,
        Subscription,
    ),
    "backend": (BackendCapabilities, BackendLimits, Record, Join, Page),
    "serializer": (),
    "middleware": (SentMessage,),
}
"""What the methods of each kind take and return, in the order of :func:`contract_text`."""
_TITLES = {True: "Required methods", False: "Optional methods"}
_WIDTH = 116
_ATTRIBUTES = "\nAttributes:\n"
"""Heading of the last section of a docstring: the fields."""
_ROLE = re.compile(r":\w+:`~?(?:\w+\.)*(\w+)`")
"""A name with its mark for Sphinx, which says what it is and where."""
_FIELD = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
_LEFT_TO_BASE = frozenset(
    {
        "after_send",
        "around_run",
        "around_send",
        "check_sizes",
        "commit",
        "dead_beyond",
        "find",
        "look_for_marks",
        "on_dead",
        "on_retry",
        "on_skip",
        "options_of",
        "put_same",
        "renew",
        "search",
        "seek_dead",
        "share",
        "strays",
        "subscribe",
        "tell_set_aside",
        "walk",
    }
)
"""Optional methods whose base implementation is enough, or that few services support."""
_USUAL = frozenset({"atomic_join", "delay", "fenced_ack", "portable_leases", "processes", "scan", "tells_time"})
"""Capabilities that a skeleton declares: those that are essential, or that most services have."""


def method_sources(kind: str) -> str:
    """Return the methods of *kind* for a class that implements them, indented, one blank line between them.

    A required method raises the error that ``_left`` returns for its name; an optional one calls the base class.
    """
    contract = _CONTRACTS[kind]
    tree = ast.parse(textwrap.dedent(inspect.getsource(contract)))
    lines = textwrap.dedent(inspect.getsource(contract)).splitlines()
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    must: frozenset[str] = getattr(contract, "__abstractmethods__", frozenset())
    sources = []
    for node in body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_") or node.name in _LEFT_TO_BASE:
            continue
        optional = must and node.name not in must
        sources.append(_method(node, lines, _inherited(node) if optional else f'raise _left("{node.name}")'))
    return "\n\n".join(sources)


def capability_lines(kind: str) -> str:
    """Return each capability of *kind* as a line of a call under a comment, or an empty text if there are none."""
    classes: Mapping[str, type] = {"broker": Capabilities, "backend": BackendCapabilities}
    if kind not in classes:
        return ""
    lines = []
    for name, _, words in _fields(classes[kind]):
        lines += textwrap.wrap(_plain(words), _WIDTH, initial_indent="    # ", subsequent_indent="    # ")
        lines.append(f"    {name}={name in _USUAL},")
    return "\n".join(lines)


def contract_text(kind: str) -> str:
    """Return the contract of *kind* to read in a terminal: the methods, required ones first, then what they use."""
    contract = _CONTRACTS[kind]
    must: frozenset[str] = getattr(contract, "__abstractmethods__", frozenset())
    parts = [_heading(contract)]
    for wanted in (True, False):
        methods = [_signature(node) for node in _methods(contract) if (node.name in must) is wanted]
        parts += [_TITLES[wanted], *methods] if methods else []
    for data in _DATA[kind]:
        fields = [_indented(f"{head}\n{textwrap.indent(words, '    ')}".rstrip()) for _, head, words in _fields(data)]
        parts += [_heading(data), *fields, *map(_signature, _methods(data) if not fields else ())]
    return _ROLE.sub(r"``\1``", "\n\n".join(parts))


def _heading(kind: type) -> str:
    about, _, _ = (inspect.getdoc(kind) or "").partition(_ATTRIBUTES)
    return f"{kind.__module__}.{kind.__name__}\n{_indented(about.rstrip())}"


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return the head of a method and its docstring, indented."""
    bare = copy.copy(node)
    bare.decorator_list, bare.body = [], [ast.Pass()]
    head = ast.unparse(bare)
    words = textwrap.indent(ast.get_docstring(node) or "", "    ")
    return _indented(f"{head.removesuffix('pass').rstrip()}\n{words}")


def _indented(text: str) -> str:
    return textwrap.indent(text, "    ")


def _methods(kind: type) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the public methods in the source of a class."""
    for node in _body(kind):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node


def _fields(kind: type) -> Iterator[tuple[str, str, str]]:
    """Yield name, source and meaning of each field in the source of a class."""
    meanings = field_meanings(kind)
    for node in _body(kind):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id[0] != "_":
            yield node.target.id, _declared(node), "\n".join(textwrap.wrap(meanings[node.target.id], _WIDTH))


def field_meanings(kind: type) -> dict[str, str]:
    """Return what the docstring of *kind* says of each field, by name; each in one line."""
    _, _, section = (inspect.getdoc(kind) or "").partition(_ATTRIBUTES)
    return {name: " ".join(text.split()) for name, text in _FIELD.findall(section)}


def _declared(node: ast.AnnAssign) -> str:
    """Return a field as ``name: type = default``; the default is left out if it is computed."""
    declared = copy.copy(node)
    if isinstance(node.value, ast.Call):
        declared.value = None
    return ast.unparse(declared)


def _plain(text: str) -> str:
    """Return a docstring without its marks for Sphinx, in one line."""
    return _ROLE.sub(r"\1", " ".join(text.split())).replace("``", "")


def _body(kind: type) -> list[ast.stmt]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    return tree.body


def _method(node: ast.FunctionDef, lines: list[str], statement: str) -> str:
    """Return one method with its docstring and *statement* as its body."""
    end = node.body[0].end_lineno
    head = [line.partition("  # noqa")[0] for line in lines[node.lineno - 1 : end]]
    return "\n".join([*head, f"        {statement}"])


def _inherited(node: ast.FunctionDef) -> str:
    """Return the statement that calls the base class."""
    plain = [argument.arg for argument in node.args.args[1:]]
    passed = ", ".join([*plain, *(f"{argument.arg}={argument.arg}" for argument in node.args.kwonlyargs)])
    call = f"super().{node.name}({passed})"
    nothing = isinstance(node.returns, ast.Constant) and node.returns.value is None
    return call if nothing else f"return {call}"
