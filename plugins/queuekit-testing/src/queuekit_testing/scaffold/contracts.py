"""The methods of a contract as source to fill in, with their own signatures and docstrings, which cannot lag behind."""

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
_LEFT_TO_BASE = frozenset({"check", "check_sizes", "commit", "find", "interrupt", "share", "tell_set_aside", "walk"})
"""Optional methods whose base body is a fair answer, or that few can offer."""
_USUAL = frozenset({"atomic_join", "delay", "fenced_ack", "processes", "scan"})
"""Capabilities that a skeleton begins with: those without which little works, or that most services have."""


def method_sources(kind: str) -> str:
    """Return the methods of *kind* for a class that fills them, indented, one blank line between them.

    What must be filled raises what ``_left`` returns, with its name; what is optional does what the base class does.
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
    """Return each capability of *kind* as a line of a call, or nothing where there are none."""
    classes: Mapping[str, type] = {"broker": Capabilities, "backend": BackendCapabilities}
    if kind not in classes:
        return ""
    names = [field.name for field in attrs.fields(classes[kind])]
    return "\n".join(f"    {name}={name in _USUAL}," for name in names)


def _method(node: ast.FunctionDef, lines: list[str], statement: str) -> str:
    """Return one method with its docstring and *statement* for a body."""
    end = node.body[0].end_lineno
    head = [line.partition("  # noqa")[0] for line in lines[node.lineno - 1 : end]]
    return "\n".join([*head, f"        {statement}"])


def _inherited(node: ast.FunctionDef) -> str:
    """Return the statement that does what the base class does."""
    plain = [argument.arg for argument in node.args.args[1:]]
    passed = ", ".join([*plain, *(f"{argument.arg}={argument.arg}" for argument in node.args.kwonlyargs)])
    call = f"super().{node.name}({passed})"
    nothing = isinstance(node.returns, ast.Constant) and node.returns.value is None
    return call if nothing else f"return {call}"
