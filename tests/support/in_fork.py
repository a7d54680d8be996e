"""What the processes that fork for tests have in common: what is found out once for all forks, and how a fork ends.

They are programs in this folder, and import it as ``in_fork``.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["ending", "forget_plugins", "import_pytest", "leave", "load_plugins"]

_codes: list[Any] = []
"""What the program of this fork has ended with; empty before."""


def load_plugins() -> None:
    """Scan the environment for plugins and load them, which takes longer than most commands."""
    from queuekit.plugins import loading

    for point in loading.installed():
        loading.load_entry_point(point)


def forget_plugins(paths: Iterable[str]) -> None:
    """Have this fork scan again, if distributions are in *paths*, which it has and who forked it had not."""
    if any(next(Path(path).glob("*-info"), None) for path in paths):
        from queuekit.plugins import loading

        loading._scanned = None
        loading._dists.clear()
        loading._loaded.clear()


def import_pytest() -> None:
    """Import pytest with its own plugins, which takes as long as the tests of a page; a second time changes nothing."""
    if "pytest" not in sys.modules:
        for name in ("pytest", *(f"_pytest.{plugin}" for plugin in import_module("_pytest.config").default_plugins)):
            import_module(name)
        gc.freeze()


def ending(program: Callable[[], object]) -> None:
    """Run the program of a fork, and note with what it ends, unless that is an error."""
    try:
        program()
    except SystemExit as end:
        _codes.append(end.code)
        raise
    _codes.append(0)


def leave() -> None:
    """End a fork whose program has ended; to take hundreds of modules apart takes as long as a short command.

    It is to be called last at an exit, and so registered first.
    """
    if _codes and isinstance(_codes[0], int | None):
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (AttributeError, OSError, ValueError):
            return  # the interpreter says so
        os._exit(_codes[0] or 0)
