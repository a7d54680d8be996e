"""A folder of installed plugins: real modules and real metadata, as pip would have left them."""

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

HEADER = """
from queuekit.hookspecs import *
queuekit_api = (1, 0)
"""


def serving(*schemes: str, factory: str = "queuekit.memory:MemoryBroker") -> str:
    """Return the source of a plugin with a broker for *schemes*."""
    return f"""{HEADER}
@hookimpl
def queuekit_brokers():
    return [BrokerSpec(schemes={schemes!r}, factory={factory!r})]
"""


class PluginSite:
    """Plugins installed into *folder*, which must be on ``sys.path``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scans = 0
        self.modules: list[str] = []

    def install(self, dist: str, source: str = HEADER, *, name: str = "", version: str = "1.2", module: str = "") -> str:
        """Install a distribution with one entry point *name*; return its module's name."""
        name = name or dist.removeprefix("queuekit-")
        module = module or f"{dist}_{name}_plugin".replace("-", "_")
        self.write(module, source)
        info = self.folder / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[queuekit]\n{name} = {module}\n")
        return module

    def write(self, module: str, source: str) -> None:
        """Write a module that no distribution owns."""
        (self.folder / f"{module}.py").write_text(textwrap.dedent(source))
        self.modules.append(module)
        importlib.invalidate_caches()

    def entry_points(self) -> list[EntryPoint]:
        """Return the entry points of what is installed here, and count the scan."""
        self.scans += 1
        found = [dist.entry_points.select(group="queuekit") for dist in distributions(path=[str(self.folder)])]
        return [point for points in found for point in points]

    def imported(self) -> list[str]:
        """Return which of the modules here have been imported."""
        return [module for module in self.modules if module in sys.modules]

    def forget(self) -> None:
        """Drop the modules here from the process."""
        for module in self.imported():
            sys.modules.pop(module, None)


def plugin_site(folder: Path, syspath_prepend: Callable[[str], None]) -> Iterator[PluginSite]:
    """Yield an empty site in *folder*; for a fixture."""
    syspath_prepend(str(folder))
    site = PluginSite(folder)
    yield site
    site.forget()
