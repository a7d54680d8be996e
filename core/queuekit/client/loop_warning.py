"""In development, warns once if a program sends from an event loop, which a send blocks for a round trip."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from queuekit.signature import Signature

__all__ = ["warn_on_loops"]

T = TypeVar("T")
_PACKAGE = "queuekit"


def warn_on_loops(send: Callable[[Signature[Any]], T]) -> Callable[[Signature[Any]], T]:
    """Return *send* with a check for a running event loop, which warns once."""
    warned: list[bool] = []

    def checked(signature: Signature[Any]) -> T:
        if not warned and _is_on_loop():
            warned.append(True)
            _warn(signature)
        return send(signature)

    return checked


def _is_on_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - the public one raises


def _warn(signature: Signature[Any]) -> None:
    frame: FrameType | None = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame = frame.f_back
    text = f"send() of {signature.task} blocks the event loop for a round trip: write  await ....asend(...)"
    if frame is None:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        return
    warnings.warn_explicit(
        text,
        RuntimeWarning,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__"),
    )
