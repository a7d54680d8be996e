"""Coverage of processes that fork, in a run that measures some of its tests only."""

import importlib.util
from typing import Any
from weakref import WeakSet

__all__ = ["patch_once"]


def patch_once() -> None:
    """Have each measurement patch ``fork`` and ``_exit`` once, however often it pauses.

    It does so with each start, and ``no_cover`` starts it again after each test. Every fork would then begin as many
    measurements as there were such tests, one inside the other: a minute of CPU in the end, which no limit foresees.
    """
    if importlib.util.find_spec("coverage") is None:
        return
    from coverage import Coverage, control

    module: Any = control
    apply = module.apply_patches
    present = Coverage.current()
    patched: WeakSet[Any] = WeakSet() if present is None else WeakSet([present])

    def apply_once(measurement: Any, *others: Any) -> None:
        if measurement not in patched:
            patched.add(measurement)
            apply(measurement, *others)

    module.apply_patches = apply_once
