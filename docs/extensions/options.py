"""Shows attrs classes as their users see them: whole sentences, real defaults, and settings in a table."""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import attrs
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from queuekit import durations
from queuekit_testing.scaffold.contracts import field_meanings

_COLON = "\N{MODIFIER LETTER COLON}"
"""Stands for a colon while napoleon looks: the text before one would be the type of the attribute."""
_BEFORE_NAPOLEON, _AFTER_NAPOLEON = 400, 600
_DEFAULT = re.compile(r"(\w+)(: (?:(?!, \w+[:=]).)*?)? = (attr_dict\['\w+'\]\.default|NOTHING)")


def hide_colons(_app: Sphinx, what: str, *args: Any) -> None:
    """Keep napoleon from tearing the sentence about an attribute apart at its first colon."""
    lines: list[str] = args[-1]
    if what in {"attribute", "data", "property"}:
        lines[:] = [line.replace(":", _COLON) for line in lines]


def show_colons(_app: Sphinx, _what: str, *args: Any) -> None:
    """Undo :func:`hide_colons`."""
    lines: list[str] = args[-1]
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def show_defaults(
    _app: Sphinx, _what: str, _name: str, obj: Any, _options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None] | None:
    """Write the defaults of fields in place of what attrs calls them in the source that it makes."""
    if signature is None or not (inspect.isclass(obj) and attrs.has(obj)):
        return None
    fields = {field.alias or field.name: field for field in attrs.fields(obj)}

    def default(match: re.Match[str]) -> str:
        name, annotation, _ = match.groups()
        return f"{name}{annotation or ''} = {shown_default(fields[name])}"

    return _DEFAULT.sub(default, signature), returned


def shown_default(field: attrs.Attribute[Any]) -> str:
    """Return the default of *field* as Python writes it, or ``...`` where it depends on other fields."""
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        if default.takes_self or not isinstance(default.factory, type):
            return "..."
        return repr(default.factory())
    if inspect.isclass(default) or inspect.isfunction(default):
        return default.__name__
    return repr(default)


def skip_fields(_app: Sphinx, _what: str, _name: str, obj: object, _skip: bool, _options: Any) -> bool | None:  # noqa: FBT001
    """Leave out the fields of a named tuple, which its docstring describes."""
    return True if type(obj).__name__ == "_tuplegetter" else None


class OptionsTable(SphinxDirective):
    """``.. options-table:: module:Class``: its fields with default, environment variable and meaning."""

    required_arguments = 1
    has_content = False
    option_spec: ClassVar[dict[str, Any]] = {"table": directives.unchanged, "leaves": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        module_name, _, class_name = self.arguments[0].partition(":")
        kind = getattr(importlib.import_module(module_name), class_name)
        text = [".. list-table::", "   :class: options", "   :header-rows: 1", "   :widths: auto", ""]
        for row in [_HEADER, *self._rows(kind, field_meanings(kind))]:
            for number, cell in enumerate(row):
                first, *others = cell.split("\n")
                text += [f"   {' ' if number else '*'} - {first}", *(f"       {line}" for line in others)]
        parent = nodes.Element()
        self.state.nested_parse(StringList(text, self.arguments[0]), self.content_offset, parent)
        return parent.children

    def _rows(self, kind: type, meanings: dict[str, str]) -> Iterator[tuple[str, ...]]:
        table = self.options.get("table", "")
        hints = get_type_hints(kind, include_extras=True)
        for field in attrs.fields(kind):
            name = field.alias or field.name
            meaning = meanings.get(field.name)
            hint = hints[field.name]
            if field.init and meaning and not (isinstance(hint, type) and attrs.has(hint)) and self._is_set(name):
                variable = "QUEUEKIT_" + (f"{table}__{name}" if table else name).upper()
                named = f"| ``{name}``\n| ``{variable}``"
                yield named, _as_written(field, hint), _takes(hint), meaning

    def _is_set(self, name: str) -> bool:
        return "leaves" not in self.options or name not in {"sections", "settings", "folder"}


_HEADER = ("name and environment variable", "default", "takes", "meaning")
_TAKES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _as_written(field: attrs.Attribute[Any], hint: Any) -> str:
    """Return the default of *field* as a config file has it."""
    shown = shown_default(field)
    if shown == "...":
        return "see **meaning**"
    value: Any = field.default.factory() if isinstance(field.default, attrs.Factory) else field.default  # type: ignore[arg-type]
    if value in (None, (), {}, []):
        return "none"
    if _is_duration(hint):
        return f'``"{durations.format(value)}"``'
    if isinstance(value, bool):
        return f"``{str(value).lower()}``"
    return f'``"{value}"``' if isinstance(value, str) else f"``{value}``"


def _is_duration(hint: Any) -> bool:
    return get_origin(hint) is Annotated or any(get_origin(part) is Annotated for part in get_args(hint))


def _takes(hint: Any) -> str:
    """Return in words what a setting of type *hint* accepts, with its unit."""
    if _is_duration(hint):
        return "a :ref:`duration <durations>`"
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(f'``"{part}"``' for part in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(_takes(part) for part in parts if part is not type(None))
    if origin is tuple:
        return "a list of texts"
    if origin is not None:
        return "a table"
    return _TAKES.get(hint, "text")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect all of it."""
    app.add_directive("options-table", OptionsTable)
    app.connect("autodoc-process-docstring", hide_colons, priority=_BEFORE_NAPOLEON)
    app.connect("autodoc-process-docstring", show_colons, priority=_AFTER_NAPOLEON)
    app.connect("autodoc-process-signature", show_defaults)
    app.connect("autodoc-skip-member", skip_fields)
    return {"parallel_read_safe": True}
