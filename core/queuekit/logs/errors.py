"""Log lines about what user code, a plugin or an engine raised, where the log itself must not raise."""

from __future__ import annotations

import logging
from contextlib import suppress

__all__ = ["log_error"]


def log_error(logger: logging.Logger, text: str, *args: object, error: BaseException | None = None) -> None:
    """Log *text* with the traceback of *error*; default: of what is being handled.

    A handler or filter of the user's may raise anything, and the thread that logs has others to serve.
    """
    with suppress(BaseException):
        logger.error(text, *args, exc_info=error if error is not None else True)
