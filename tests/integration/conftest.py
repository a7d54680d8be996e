"""The fleet of workers that fault tests do harm to."""

from support.engines import fleet

__all__ = ["fleet"]
