"""Log unexpected errors of user code, plugins or engines where logging itself must not raise."""

from __future__ import annotations

import logging
from contextlib import suppress

__all__ = ["log_error"]


def log_error(logger: logging.Logger, text: str, *args: object, error: BaseException | None = None) -> None:
    """Log *text* with the traceback of *error*; default: the exception being handled.

    Raises nothing: a log handler of the user may fail, and must not end the thread that logs.
    """
    with suppress(BaseException):
        logger.error(text, *args, exc_info=error if error is not None else True)
