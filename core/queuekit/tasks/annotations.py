"""Resolves annotations to classes, each by itself, so that one that cannot be resolved does not affect others."""

from __future__ import annotations

import ast
import builtins
import contextlib
import enum
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, ForwardRef, Literal, Union, get_args, get_origin

from queuekit.resources import Use
from queuekit.secret import Secret

__all__ = [
    "Names",
    "annotations_of",
    "classes_in",
    "evaluated",
    "fields_of",
    "hint_of",
    "hints_of",
    "is_secret",
    "is_unknown",
    "names",
    "names_of",
    "parts_of",
]

_FORWARDREF = 3
"""Format ``FORWARDREF`` of Python 3.14: an unresolvable annotation is returned as a reference, not raised."""
_NONES = (None, NoneType, "None")
_SECRET = re.compile(r"\bSecret\b")
_UNIONS = frozenset({"Optional", "Union"})
_MOST = 10_000
"""Most parts of an annotation to visit, so that a recursive one terminates."""


class _Absent(type):
    """Metaclass for a name that is missing at run time: its attributes and subscripts stand for it too."""

    def __getattr__(cls, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return cls

    def __getitem__(cls, _item: Any) -> Any:
        return cls


class _Nothing(metaclass=_Absent):
    """Stands for a name that exists only for type checkers."""


class Names(dict[str, Any]):
    """The names of a module; a missing name gives a builtin or :class:`_Nothing`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.compiled: dict[Any, Any] = {}
        """What annotations that have a name of their own were compiled to, so that they may contain themselves."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, _Nothing)


def hints_of(thing: Any) -> Iterator[Any]:
    """Yield the annotations of a function, or of a class and its bases, resolved as far as possible."""
    owners = thing.__mro__ if isinstance(thing, type) else [inspect.unwrap(thing)]
    for owner in owners:
        names = names_of(owner)
        for annotation in annotations_of(owner).values():
            yield from parts_of(annotation, names)
        # A parametrized pydantic model, Page[Item], names Item only here.
        for field in (vars(owner).get("__pydantic_fields__") or {}).values() if isinstance(owner, type) else ():
            yield from parts_of(field.annotation, names)


def hint_of(function: Any, name: str) -> Any:
    """Return the annotation of parameter *name*, or of ``return``, resolved as far as possible."""
    owner = inspect.unwrap(function)
    annotation = annotations_of(owner).get(name)
    return evaluated(annotation, names_of(owner)) if isinstance(annotation, str) else annotation


def annotations_of(owner: Any) -> Mapping[str, Any]:
    """Return the annotations of a function, or of a class without its bases, as they are written."""
    if sys.version_info >= (3, 14):
        read: Any = inspect.get_annotations
        found: Mapping[str, Any] = read(owner, format=_FORWARDREF)
        return found
    if isinstance(owner, type):  # its own, not those of a base
        return vars(owner).get("__annotations__") or {}
    return getattr(owner, "__annotations__", None) or {}


def names_of(owner: Any) -> Names:
    """Return the names that annotations of a function or class may use."""
    if isinstance(owner, type):
        module = sys.modules.get(owner.__module__)
        return Names({**(vars(module) if module else {}), **vars(owner)})
    names = Names(getattr(owner, "__globals__", {}))
    code, cells = getattr(owner, "__code__", None), getattr(owner, "__closure__", None) or ()
    for name, cell in zip(getattr(code, "co_freevars", ()), cells, strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not yet bound
            continue
    return names


def parts_of(annotation: Any, names: Names) -> Iterator[Any]:
    """Yield the types that *annotation* names, including those inside unions, containers and aliases."""
    pending = [annotation]
    for _ in range(_MOST):
        if not pending:
            return
        part = pending.pop()
        text = part.__forward_arg__ if isinstance(part, ForwardRef) else part
        if isinstance(text, str):
            pending.append(evaluated(text, names))
            continue
        if any(isinstance(mark, Use) for mark in getattr(part, "__metadata__", ())):
            continue  # a worker makes its value, and no message brings it
        yield part
        pending += [each for each in (get_origin(part), *_parts(part)) if each is not None]


def _parts(part: Any) -> tuple[Any, ...]:
    """Return the parts of a type: its arguments, and the types behind a NewType, alias or type variable."""
    inner = _arguments(part)
    for attribute in ("__supertype__", "__value__", "__bound__", "__constraints__"):
        found = None if isinstance(part, type) else getattr(part, attribute, None)
        inner += found if isinstance(found, tuple) else [found]
    # A parametrized pydantic model, Page[Item], also accepts a Page.
    inner.append((getattr(part, "__pydantic_generic_metadata__", None) or {}).get("origin"))
    return tuple(inner)


def _arguments(part: Any) -> list[Any]:
    """Return the types among the arguments of a type, those of a list of arguments too."""
    origin, args = get_origin(part), get_args(part)
    if origin is Literal:  # texts in it are values; the class of a member, as in Literal[Colour.RED], is a type
        return [type(item) for item in args if isinstance(item, enum.Enum)]
    lists = [item if isinstance(item, list) else [item] for item in (args[:1] if origin is Annotated else args)]
    return [item for some in lists for item in some]


def is_secret(annotation: Any, names: Names) -> bool:
    """Return whether *annotation* marks values with ``Secret``, at any depth, also in source form or by an alias."""
    pending = [annotation]
    for _ in range(_MOST):
        if not pending:
            break
        part = pending.pop()
        text = part.__forward_arg__ if isinstance(part, ForwardRef) else part
        if isinstance(text, str):
            if _SECRET.search(text):
                return True
            pending.append(evaluated(text, names))
            continue
        if any(mark is Secret or isinstance(mark, Secret) for mark in getattr(part, "__metadata__", ())):
            return True
        pending += [each for each in _parts(part) if each is not None]
    return False


def evaluated(text: str, names: Names) -> Any:
    """Return what an annotation in source form stands for; ``None`` if that is unknown."""
    try:
        return eval(text, {"__builtins__": {}}, names)  # noqa: S307 - the annotation is part of the user's own code
    except Exception:  # noqa: BLE001 - an annotation that cannot be resolved names no class
        return None


def is_unknown(kind: Any) -> bool:
    """Return whether *kind* stands for a name that exists only for type checkers."""
    return kind is _Nothing


def classes_in(thing: Any) -> Iterator[type]:
    """Yield the classes in the annotations of *thing*, and recursively in those of the fields of these classes."""
    seen: set[int] = set()
    pending = [thing]
    while pending:
        for part in hints_of(pending.pop()):
            if isinstance(part, type) and part is not _Nothing and id(part) not in seen:
                seen.add(id(part))
                yield part
                if fields_of(part):
                    pending.append(part)


def fields_of(kind: Any) -> bool:
    """Return whether the annotations of a class describe its instances' fields."""
    marks = (
        "__attrs_attrs__",
        "__dataclass_fields__",
        "__total__",
        "_fields",
        "__pydantic_fields__",
        "__struct_fields__",
    )
    return any(hasattr(kind, mark) for mark in marks)


def names(annotation: Any, function: Callable[..., Any], *, kind: type, package: str) -> bool:
    """Return whether *annotation* of *function* means *kind*, which *package* exports under its name.

    It may be a class or text, bare, ``Annotated`` or optional, and imported only for type checkers.
    """
    members = [member for member in _members(annotation, function) if member not in _NONES]
    return bool(members) and all(_means(member, function, kind, package) for member in members)


def _members(annotation: Any, function: Callable[..., Any]) -> Iterator[Any]:
    """Yield the members of a union, through ``Annotated``, references and aliases, as objects or dotted names."""
    text: Any = annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation
    origin = get_origin(annotation)
    alias = None if isinstance(annotation, type | ForwardRef) else getattr(annotation, "__value__", None)
    if isinstance(text, str):
        yield from _written(text, function)
    elif origin is Annotated:
        yield from _members(get_args(annotation)[0], function)
    elif origin in {Union, UnionType}:
        for member in get_args(annotation):
            yield from _members(member, function)
    elif alias is not None:
        yield from _members(alias, function)
    else:
        yield annotation


def _parsed(source: str, mode: str = "exec") -> Any:
    """Return the syntax tree of *source*."""
    try:
        return ast.parse(source, mode=mode)
    except SystemError:  # of Python 3.11 if a finalizer parses meanwhile, as asyncio does when it logs a lost error
        return ast.parse(source, mode=mode)


def _written(text: str, function: Callable[..., Any]) -> Iterator[Any]:
    try:
        node = _parsed(text.strip(), "eval").body
    except (SyntaxError, ValueError, RecursionError):
        return
    for name in _names_in(node):
        found = _found(name, getattr(function, "__globals__", {}))
        if found is None or isinstance(found, str):
            yield name
        else:
            yield from _members(found, function)


def _names_in(node: ast.expr) -> Iterator[str]:
    """Yield the dotted names of the members of a union in source form."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from _names_in(left)
            yield from _names_in(right)
        case ast.Subscript():
            yield from _names_in_subscript(node)
        case ast.Constant(value=str(text)):
            with contextlib.suppress(SyntaxError, ValueError):
                yield from _names_in(_parsed(text.strip(), "eval").body)
        case _:
            yield ast.unparse(node)


def _names_in_subscript(node: ast.Subscript) -> Iterator[str]:
    which = ast.unparse(node.value).rpartition(".")[2]
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if which in _UNIONS:
        for part in parts:
            yield from _names_in(part)
    elif which == "Annotated":
        yield from _names_in(parts[0])
    else:
        yield ast.unparse(node)


def _found(name: str, known: Mapping[str, Any]) -> Any:
    """Look up a dotted name in a function's globals; ``None`` for anything more complex."""
    head, *rest = name.split(".")
    value = known.get(head)
    for part in rest:
        value = getattr(value, part, None)
    return value


def _means(member: Any, function: Callable[..., Any], kind: type, package: str) -> bool:
    if not isinstance(member, str):
        return member is kind
    head, *rest = member.split(".")
    target = _imported(inspect.unwrap(function).__module__).get(head)
    if target is None:
        return False
    whole = ".".join([target, *rest])
    return whole.partition(".")[0] == package and whole.rpartition(".")[2] == kind.__name__


@lru_cache(maxsize=64)
def _imported(module: str) -> dict[str, str]:
    """Return the imports in the source of *module*, also in ``if`` blocks, as local name -> full name."""
    try:
        tree = _parsed(inspect.getsource(sys.modules[module]))
    except Exception:  # noqa: BLE001 - without source, nothing is known of the imports
        return {}
    return {name: full for node in ast.walk(tree) for name, full in _imported_by(node)}


def _imported_by(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield what one statement imports: local name and full name."""
    if isinstance(node, ast.ImportFrom):
        yield from ((one.asname or one.name, f"{node.module}.{one.name}") for one in node.names)
    elif isinstance(node, ast.Import):
        for one in node.names:
            first = one.name.partition(".")[0]
            yield one.asname or first, one.name if one.asname else first
