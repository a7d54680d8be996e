"""Helpers for the tests of a plugin: its module as core loads it, its distribution, its engines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import closing
from importlib.metadata import Distribution, entry_points
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple

import pytest

from queuekit.broker import Broker
from queuekit.clock import SystemClock
from queuekit.envelope import Envelope
from queuekit.errors import ConfigError
from queuekit.hookspecs import BackendSpec, BrokerSpec
from queuekit.ids import new_id
from queuekit.plugins.factory import resolve
from queuekit.plugins.loading import GROUP, Plugin, load_object
from queuekit.plugins.manager import Plugins
from queuekit.urls import EngineURL
from queuekit_testing.kit import Conformance, unique_name

__all__ = ["CORE", "SECRET", "Import", "PluginKit"]

SECRET = "Xq7secretXq7"  # noqa: S105 - no door has it
"""Password in the URLs of the tests; no text that a person sees may contain it."""
CORE = frozenset({"attr", "attrs", "click", "pluggy", "queuekit"})
"""Packages that core imports anyway."""

_MEASURE = """
import json, sys, time
begin = time.process_time()
import importlib.metadata, queuekit.app, queuekit.plugins.builtin, queuekit.middleware, queuekit.plugins.manager
before, start = set(sys.modules), time.process_time()
__import__(sys.argv[1])
took = time.process_time() - start
print(json.dumps({"modules": sorted(set(sys.modules) - before), "seconds": took, "core": start - begin}))
"""
_LOCAL = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")

Spec = BrokerSpec | BackendSpec


class Import(NamedTuple):
    """The cost of importing the plugin's module in a process that has imported core."""

    modules: list[str]
    """The modules that it adds."""
    seconds: float
    """CPU time of the import."""
    core: float
    """CPU time of core's own import in the same process."""


_imports: dict[tuple[str, ...], Import] = {}
"""What was measured last, by plugin and path."""


class PluginKit(Conformance):
    """The plugin under test, and helpers."""

    plugin: str = ""
    """Dotted name of the module that the entry point names, e.g. ``"queuekit_example.plugin"``."""
    distribution: str = ""
    """Name of the distribution that pip installs; by default the one whose entry point names the module."""
    URLS: ClassVar[Mapping[str, str]] = {}
    """Scheme -> URL to test it with, if ``scheme://{user}:{password}@127.0.0.1:1/0`` is not valid for it. No server
    should listen there. ``{user}`` and ``{password}`` are optional and are filled in."""

    @pytest.fixture
    def loaded(self) -> Plugin:
        """Return the plugin as core loads it."""
        if not self.plugin:
            hint = 'plugin = "queuekit_example.plugin", the module that the entry point names'
            raise NotImplementedError(f"{type(self).__name__} does not name its plugin. Add {hint}")
        return load_object(self.plugin, name=self.plugin)

    @pytest.fixture
    def installed(self) -> Distribution:
        """Return the distribution that provides the plugin."""
        points = [point for point in entry_points(group=GROUP) if point.value.partition(":")[0] == self.plugin]
        if self.distribution:
            return Distribution.from_name(self.distribution)
        found = next((point.dist for point in points if point.dist is not None), None)
        if found is None:
            line = f'[project.entry-points.{GROUP}]\nexample = "{self.plugin}"'
            pytest.fail(f"no installed entry point names {self.plugin}; add to pyproject.toml:\n{line}")
        return found

    @pytest.fixture
    def plugins(self, loaded: Plugin) -> Plugins:
        """Return core's plugins and this one, without any others that are installed."""
        plugins = Plugins(entry_points=list, environ={})
        if not any(
            info.name == "builtin" for info in plugins.infos() if loaded.module.__name__ == "queuekit.plugins.builtin"
        ):
            plugins.register(loaded.module, self.plugin)
        return plugins

    # -- engines -------------------------------------------------------------------------------------------------

    def specs(self, loaded: Plugin) -> Iterator[Spec]:
        """Yield the specs of all engines."""
        yield from loaded.brokers
        yield from loaded.backends

    def url(self, scheme: str, query: str = "") -> EngineURL:
        """Return a URL of *scheme* that no server answers, with a password if the form allows one."""
        pattern = self.URLS.get(scheme, f"{scheme}://{{user}}:{{password}}@127.0.0.1:1/0")
        raw = pattern.format(user="somebody", password=SECRET)
        return EngineURL.parse(raw + (("&" if "?" in raw else "?") + query if query else ""))

    def make(self, plugins: Plugins, spec: Spec, url: EngineURL) -> Any:
        """Return the engine of *spec* at *url*, made as an app makes it."""
        side: Literal["broker", "backend"] = "broker" if isinstance(spec, BrokerSpec) else "backend"
        return plugins.make(side, url, table={}, clock=SystemClock(), random=Random())  # noqa: S311 - guards nothing

    def engine(self, plugins: Plugins, spec: Spec) -> Any:
        """Return the engine of *spec*, made with the first of its URLs that is accepted; fail if none is."""
        refusals = []
        for scheme in sorted(spec.schemes, key=lambda scheme: scheme not in self.URLS):
            try:
                return self.make(plugins, spec, self.url(scheme))
            except ConfigError as error:
                refusals.append(str(error))
        hint = f'URLS = {{"{spec.schemes[0]}": "{spec.schemes[0]}://..."}}'
        pytest.fail(f"the plugin accepts none of the test URLs; give the class {hint}\n" + "\n".join(refusals))

    def utterances(self, plugins: Plugins, spec: Spec, url: EngineURL) -> Iterator[str]:
        """Yield every text of an engine at *url* that a person can see: its representations and its errors."""
        try:
            engine = self.make(plugins, spec, url)
        except Exception as error:  # noqa: BLE001 - it may refuse the URL; the error's text is checked too
            yield from _texts(error)
            return
        with closing(engine):
            yield from (
                repr(engine),
                str(engine),
                *map(repr, vars(engine).values() if hasattr(engine, "__dict__") else ()),
            )
            if all(_LOCAL.fullmatch(host) for host in url.hosts):
                yield from _texts(self.failure(engine))

    def failure(self, engine: Any) -> BaseException | None:
        """Return what an engine raises if no server answers, ``None`` if it needs no server."""
        name = unique_name("kit")
        try:
            if isinstance(engine, Broker):
                engine.send([Envelope(id=new_id(), queue=name, body=b"body")])
            else:
                engine.get([name])
        except Exception as error:  # noqa: BLE001 - what it raises is the question
            return error
        return None

    # -- import --------------------------------------------------------------------------------------------------

    def import_alone(self, *, again: bool = False) -> Import:
        """Import the plugin's module in a separate process and return the cost; once for all tests, unless *again*."""
        name = (self.plugin, *sys.path)
        if name not in _imports or again:
            _imports[name] = self._import_alone()
        return _imports[name]

    def _import_alone(self) -> Import:
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", _MEASURE, self.plugin]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)  # noqa: S603 - our own
        assert not done.returncode, f"importing {self.plugin} in a separate process failed:\n{done.stderr}"
        return Import(**json.loads(done.stdout.splitlines()[-1]))


def options_of(spec: Spec) -> type | None:
    """Import and return the options class of *spec*."""
    kind: type | None = resolve(spec.options)
    return kind


def _texts(error: BaseException | None) -> Iterator[str]:
    """Yield an error as text in every form, including the errors that caused it."""
    if error is not None:
        yield from (str(error), repr(error), *traceback.format_exception(error))
