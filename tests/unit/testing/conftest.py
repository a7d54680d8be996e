"""What holds for tests that run pytest within pytest."""

import os
import sys
from collections.abc import Callable

import pytest
from _pytest.pytester import SysModulesSnapshot


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Forget after a run only what it has imported from its own folder.

    Forgotten libraries are imported again, while those that import lazily keep classes of the first copy: anyio then
    no longer catches its own errors, in whatever test comes next.
    """
    take = SysModulesSnapshot.__init__

    def is_kept(name: str) -> bool:
        file = getattr(sys.modules[name], "__file__", None) or ""
        return not file.startswith(f"{pytester.path}{os.sep}")

    def take_kept(snapshot: SysModulesSnapshot, preserve: Callable[[str], bool] | None = None) -> None:
        take(snapshot, is_kept)

    monkeypatch.setattr(SysModulesSnapshot, "__init__", take_kept)
    return pytester
