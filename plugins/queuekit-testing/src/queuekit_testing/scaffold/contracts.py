"""The methods of a contract as source to fill in, with the signatures and docstrings of core's own source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping

import attrs

from queuekit.backend import Backend, BackendCapabilities
from queuekit.broker import Broker, Capabilities
from queuekit.middleware import Middleware
from queuekit.serializer import Serializer

__all__ = ["capability_lines", "method_sources"]

_CONTRACTS: Mapping[str, type] = {
    "broker": Broker,
    "backend": Backend,
    "serializer": Serializer,
    "middleware": Middleware,
}
_LEFT_TO_BASE = frozenset(
    {
        "after_send",
        "around_run",
        "check",
        "check_sizes",
        "commit",
        "find",
        "interrupt",
        "on_dead",
        "on_retry",
        "on_skip",
        "put_same",
        "renew",
        "share",
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
    """Return each capability of *kind* as a line of a call, or an empty text if there are none."""
    classes: Mapping[str, type] = {"broker": Capabilities, "backend": BackendCapabilities}
    if kind not in classes:
        return ""
    names = [field.name for field in attrs.fields(classes[kind])]
    return "\n".join(f"    {name}={name in _USUAL}," for name in names)


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
