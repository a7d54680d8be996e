"""Wheels written by hand: enough for pip to install a plugin of one module, in no time."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(
    folder: Path, dist: str, files: Mapping[str, str], *, points: Mapping[str, str], version: str = "1.2"
) -> Path:
    """Write the wheel of *dist* into *folder* and return it.

    Args:
        folder: Where to.
        dist: Name of the distribution.
        files: What it installs, by path among the packages.
        points: Entry points in the group ``queuekit``.
        version: Version of the distribution.
    """
    stem = f"{dist.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    lines = "".join(f"{name} = {module}\n" for name, module in points.items())
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n",
        f"{info}/WHEEL": WHEEL,
        f"{info}/entry_points.txt": f"[queuekit]\n{lines}",
    }
    record = "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"])
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**contents, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path
