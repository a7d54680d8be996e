"""A folder of installed plugins, with modules and metadata as pip would have left them; and a plugin of one broker."""

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit.broker import Broker, Capabilities
from queuekit.durations import Seconds
from queuekit.hookspecs import BrokerSpec, hookimpl
from queuekit.plugins.manager import Plugins
from queuekit.urls import EngineURL

MakePlugins = Callable[..., Plugins]

HEADER = """
from queuekit.hookspecs import *
queuekit_api = (1, 0)
"""


def serving(*schemes: str, factory: str = "queuekit.engines.memory:MemoryBroker") -> str:
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

    def install(self, dist: str, source: str, *, name: str = "", version: str = "1.2", module: str = "") -> None:
        """Install a distribution with one entry point *name*."""
        name = name or dist.removeprefix("queuekit-")
        module = module or f"{dist}_{name}_plugin".replace("-", "_")
        self.write(module, source)
        info = self.folder / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[queuekit]\n{name} = {module}\n")

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

    def make_plugins(self, *, environ: Mapping[str, str] | None = None, **options: Any) -> Plugins:
        """Return plugins out of this site, in an empty environment."""
        return Plugins(entry_points=self.entry_points, environ=environ or {}, **options)

    def imported(self) -> list[str]:
        """Return which of the modules here have been imported."""
        return [module for module in self.modules if module in sys.modules]

    def forget(self) -> None:
        """Drop the modules here from the process."""
        for module in self.imported():
            sys.modules.pop(module, None)


def installed_site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginSite]:
    """Yield an empty site in *folder*, for a fixture."""
    monkeypatch.syspath_prepend(str(folder))
    site = PluginSite(folder)
    yield site
    site.forget()


def url(text: str) -> EngineURL:
    """Return a parsed URL."""
    return EngineURL.parse(text)


class NullBroker(Broker):
    """A broker that keeps what it was made with, and nothing else."""

    def __init__(self, url: EngineURL, *, options: Any, clock: Any, random: Any) -> None:
        self.made_with = (url, options, clock, random)

    def send(self, envelopes: Any) -> list[str]:
        """Take nothing."""
        return []

    def receive(self, queues: Any, *, limit: int, wait: float, lease: float) -> list[Any]:
        """Give nothing."""
        return []

    def extend(self, leases: Any, *, lease: float) -> list[Any]:
        """Extend nothing."""
        return []

    def settle(self, settlements: Any) -> list[Any]:
        """Settle nothing."""
        return []


class FussyBroker(NullBroker):
    """A broker whose class says by itself what it can do."""

    capabilities = Capabilities(fifo=False)


@attrs.frozen(kw_only=True)
class Options:
    """Options of an engine, one of each type."""

    size: int = attrs.field(default=10, validator=attrs.validators.ge(1))
    ratio: float = 0.5
    timeout: Seconds = 5.0
    lazy: bool = True
    prefix: str = "qk"
    hosts: tuple[str, ...] = ()
    password: str | None = attrs.field(default=None, repr=False)
    queuekit_passthrough = frozenset({"replicaSet"})


class NullPlugin:
    """A plugin object with one broker, ``null://``."""

    def __init__(self, **spec: Any) -> None:
        self.spec = BrokerSpec(**{"schemes": ("null",), "factory": NullBroker, **spec})

    @hookimpl
    def queuekit_brokers(self) -> list[BrokerSpec]:
        """Return the broker."""
        return [self.spec]
