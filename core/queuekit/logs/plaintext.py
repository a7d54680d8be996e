"""Clean text for terminals and logs: outside input cannot move the cursor, colour, hide or forge lines."""

from __future__ import annotations

__all__ = ["clean", "clean_json"]


def clean(text: str, *, lines: bool = False) -> str:
    r"""Return *text* with each character that is not printable escaped, e.g. ``\x1b`` or ``\u202e``.

    Args:
        text: Text from a task, a message or a record.
        lines: Whether to keep line feeds and tabs, as in a traceback.
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(one if one.isprintable() or one in kept else _escape(one) for one in text)


def clean_json(text: str) -> str:
    """Return a JSON document with each character that is not printable escaped; its meaning stays the same."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else _json_escape(one) for one in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
