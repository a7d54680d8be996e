"""The suite for plugins: what the module behind an entry point must do, whatever it provides."""

from __future__ import annotations

import inspect
import os
import re
import sys
import threading
from contextlib import closing
from importlib.metadata import Distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import attrs
import click
import pytest

from queuekit.app import Queuekit
from queuekit.backend import Backend
from queuekit.broker import Broker
from queuekit.errors import ConfigError, QueuekitError
from queuekit.hookspecs import API_VERSION, BrokerSpec
from queuekit.middleware import Middleware
from queuekit.plugins.factory import passthrough, resolve
from queuekit.plugins.loading import GROUP, Plugin
from queuekit.plugins.manager import Plugins
from queuekit.urls import SCHEME, EngineURL, is_secret
from queuekit_testing.plugin_kit import CORE, SECRET, PluginKit, options_of

__all__ = ["PluginConformance"]

_HEAVY = frozenset({"asyncio", "http.client", "multiprocessing", "sqlite3", "ssl", "unittest", "urllib.request", "xml"})
"""Modules of the standard library that are too slow to import only for a scheme."""
_QUICK = 0.020
"""Seconds of CPU that importing a plugin may cost over core."""
_TRIES = 5
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_SPECIFIER = re.compile(r"queuekit(?![\w-])(?:\[[^]]*\])?\s*\(?([^;)]*)")


class PluginConformance(PluginKit):
    """What every plugin must be: quick to import, installable, strict about its options, and silent about passwords.

    Subclass it and name the module of the entry point::

        class TestPlugin(PluginConformance):
            plugin = "queuekit_example.plugin"

    Its engines are made and called at an address where no server answers. Set ``URLS`` if the usual form is not valid.
    """

    # -- loading -------------------------------------------------------------------------------------------------

    def test_declares_its_api(self, loaded: Plugin) -> None:
        """The module names the version of the plugin API that it was written for, and this core supports it."""
        declared = getattr(loaded.module, "queuekit_api", None)

        assert declared is not None, f"add to {self.plugin}:  queuekit_api = {API_VERSION}"
        assert loaded.info.status == "ok"
        assert loaded.info.hooks, "no hooks: name functions as in queuekit.hookspecs and mark them with @hookimpl"

    def test_brings_no_client_library(self) -> None:
        """Importing it imports only itself, core and quick modules: core imports every plugin to learn its schemes."""
        brought = self.import_alone().modules

        own = {self.plugin.partition(".")[0], *CORE}
        strange = {name.partition(".")[0] for name in brought} - own - sys.stdlib_module_names
        heavy = _HEAVY.intersection(brought)
        assert not strange, f"importing {self.plugin} imports {sorted(strange)}; name factories as text instead"
        assert not heavy, f"importing {self.plugin} imports {sorted(heavy)}; import them where they are used"

    def test_is_imported_quickly(self) -> None:
        """Importing it costs less than 20 ms of CPU over core, or on a slow machine half of core's own cost."""
        costs = []
        for number in range(_TRIES):
            cost = self.import_alone(again=number > 0)
            costs.append(cost.seconds)
            if cost.seconds < max(_QUICK, cost.core / 2):
                return
        pytest.fail(f"importing {self.plugin} takes at least {min(costs) * 1000:.0f} ms of CPU over core")

    def test_can_be_loaded_beside_core(self, plugins: Plugins) -> None:
        """It claims no scheme, serializer or command of core, and its hooks are valid."""
        assert {info.status for info in plugins.infos()} == {"ok"}
        if not self.plugin.startswith("queuekit."):
            mine = {scheme for info in plugins.infos() if info.name == self.plugin for scheme in info.schemes}
            assert not mine & {"memory", "sqlite"}

    # -- distribution --------------------------------------------------------------------------------------------

    def test_has_one_entry_point(self, installed: Distribution) -> None:
        """Its distribution has exactly one entry point in the group, which names the module."""
        points = installed.entry_points.select(group=GROUP)

        if self._in_core(installed):
            pytest.skip("part of core, needs no entry point")
        assert [point.value for point in points] == [self.plugin]

    def test_says_which_core_it_fits(self, installed: Distribution) -> None:
        """It requires a range of queuekit versions: from the one it was written for to the next that may break it."""
        if self._in_core(installed):
            pytest.skip("part of core")
        found = [match[1] for text in installed.requires or () if (match := _SPECIFIER.match(text))]

        assert found, 'no dependency on queuekit; add dependencies = ["queuekit>=0.1,<1"]'
        assert "==" not in found[0], f"queuekit{found[0]} prevents upgrades; write a range"
        assert "~=" in found[0] or (">" in found[0] and "<" in found[0]), f"queuekit{found[0]} lacks one of its bounds"

    def test_has_metadata(self, installed: Distribution) -> None:
        """Its metadata has a one-line summary, the Python versions and the licence."""
        metadata = installed.metadata

        assert metadata["Summary"], "project.description is missing"
        assert metadata["Requires-Python"], "project.requires-python is missing"
        assert metadata["License-Expression"] or metadata["License"], "project.license is missing"

    def test_is_typed(self) -> None:
        """Its package contains the marker ``py.typed``, so that type checkers read its annotations."""
        spec = find_spec(self.plugin.partition(".")[0])

        assert spec is not None
        assert spec.origin is not None, "a package without __init__.py"
        assert Path(spec.origin).with_name("py.typed").is_file()

    # -- engines -------------------------------------------------------------------------------------------------

    def test_schemes_can_be_written(self, loaded: Plugin) -> None:
        """Each scheme is lower case, has no underscore, and survives the parsing of a URL."""
        for spec in self.specs(loaded):
            for scheme in spec.schemes:
                assert SCHEME.fullmatch(scheme), f"{scheme!r} is not {SCHEME.pattern}"
                assert EngineURL.parse(f"{scheme}://host/name").scheme == scheme

    def test_specs_have_a_summary(self, loaded: Plugin) -> None:
        """Each engine and serializer has a summary of one short line, for the list of plugins."""
        for spec in (*self.specs(loaded), *loaded.serializers):
            assert spec.summary, f"{spec!r} has no summary"
            assert "\n" not in spec.summary
            assert len(spec.summary) <= 100

    def test_factories_take_what_core_gives(self, loaded: Plugin) -> None:
        """Each factory can be imported and called as ``factory(url, *, options, clock, random)``."""
        for spec in self.specs(loaded):
            signature = inspect.signature(resolve(spec.factory))
            signature.bind("url", options=None, clock=None, random=None)

    def test_opens_nothing_when_made(self, loaded: Plugin, plugins: Plugins) -> None:
        """Making an engine succeeds without a server, and starts no thread and opens no file or connection."""
        for spec in self.specs(loaded):
            self.engine(plugins, spec).close()  # so that imports are not counted below
            threads, files = set(threading.enumerate()), _open_files()

            with closing(self.engine(plugins, spec)):
                started, opened = set(threading.enumerate()) - threads, _open_files() - files

            assert not started, f"{spec.factory} starts {started} before the first call"
            assert opened <= 0, f"{spec.factory} opens {opened} files before the first call"

    def test_says_itself_that_nobody_answers(self, loaded: Plugin, plugins: Plugins) -> None:
        """If no server answers, the engine raises an error of queuekit, not one of the client library."""
        for spec in self.specs(loaded):
            with closing(self.engine(plugins, spec)) as engine:
                error = self.failure(engine)

            assert error is None or isinstance(error, QueuekitError), f"{spec.factory} raises {error!r}"

    def test_is_what_its_spec_says(self, loaded: Plugin, plugins: Plugins) -> None:
        """An engine is a Broker or Backend, as its hook requires, and declares the capabilities of its spec."""
        for spec in self.specs(loaded):
            with closing(self.engine(plugins, spec)) as engine:
                assert isinstance(engine, Broker if isinstance(spec, BrokerSpec) else Backend)
                for name in _overclaims(spec.capabilities, engine.capabilities):
                    pytest.fail(f"the spec of {spec.schemes[0]}:// declares {name}, but {spec.factory} does not")

    def test_can_be_closed_twice(self, loaded: Plugin, plugins: Plugins) -> None:
        """An engine that was never used can be closed twice."""
        for spec in self.specs(loaded):
            engine = self.engine(plugins, spec)
            engine.close()
            engine.close()

    # -- options -------------------------------------------------------------------------------------------------

    def test_options_have_defaults(self, loaded: Plugin) -> None:
        """A URL is enough: each option has a default, and the options class is an attrs class."""
        for kind in filter(None, map(options_of, self.specs(loaded))):
            assert attrs.has(kind), f"{kind.__name__} must be an attrs class"
            kind()

    def test_refuses_unknown_options(self, loaded: Plugin, plugins: Plugins) -> None:
        """An unknown option raises an error that names it; it is neither passed on nor ignored."""
        for spec in self.specs(loaded):
            assert "nosuchoption" not in passthrough(options_of(spec))
            for scheme in spec.schemes:
                with pytest.raises(ConfigError) as caught:
                    self.make(plugins, spec, self.url(scheme, "nosuchoption=1")).close()
                assert "nosuchoption" in str(caught.value), f"{scheme}:// was refused, but not for the unknown option"

    def test_shows_no_password(self, loaded: Plugin, plugins: Plugins) -> None:
        """No ``repr``, error or traceback shows a password of the URL, whether the URL is refused or used."""
        for spec in self.specs(loaded):
            for scheme in spec.schemes:
                for text in self.utterances(plugins, spec, self.url(scheme)):
                    assert SECRET not in text, f"{scheme}:// shows the password of its URL"

    def test_options_show_no_password(self, loaded: Plugin) -> None:
        """The ``repr`` of an options class leaves out each option whose name says that it is a secret."""
        for kind in filter(None, map(options_of, self.specs(loaded))):
            shown = [field.name for field in attrs.fields(kind) if _may_be_text(field) and field.repr]
            loud = [name for name in shown if is_secret(name)]
            assert not loud, f"{kind.__name__} shows secrets; use attrs.field(..., repr=False) for {', '.join(loud)}"

    # -- the rest ------------------------------------------------------------------------------------------------

    def test_serializers_can_be_made(self, loaded: Plugin, plugins: Plugins) -> None:
        """Each serializer can be made, and its ``content_type`` is the name in its spec."""
        for spec in loaded.serializers:
            made = plugins.make_serializer(spec.name, lambda _name: None, allow_unsafe=[spec.name])
            assert made.content_type == spec.name

    def test_commands_can_be_imported(self, plugins: Plugins) -> None:
        """Each command has a short name and a line of help, and refers to a click command."""
        for spec in plugins.collect("queuekit_commands"):
            found = resolve(spec.command)

            assert _NAME.fullmatch(spec.name), f"{spec.name!r} is not {_NAME.pattern}"
            assert spec.help, f"the command {spec.name} has no help"
            assert isinstance(found if isinstance(found, click.Command) else found(), click.Command)

    def test_middlewares_can_be_made(self, plugins: Plugins) -> None:
        """Each middleware can be imported, and made for an app without settings."""
        with closing(Queuekit(broker="memory://conformance")) as app:
            specs = plugins.collect("queuekit_middlewares", config=app.config)

        for spec in specs:
            assert isinstance(resolve(spec.factory)(), Middleware), f"{spec.factory} makes no Middleware"
        assert not [info.error for info in plugins.infos() if info.status == "failed"]

    def _in_core(self, installed: Distribution) -> bool:
        return str(installed.name) == "queuekit"


def _open_files() -> int:
    """Return how many files, pipes and sockets this process has open; 0 if the system does not list them."""
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.is_dir() else 0  # noqa: PTH208 - iterdir would open one more while counting


def _overclaims(promised: Any, kept: Any) -> list[str]:
    """Return the capabilities that *promised* has and *kept* lacks."""
    return [
        field.name
        for field in attrs.fields(type(promised))
        if getattr(promised, field.name) and not getattr(kept, field.name)
    ]


def _may_be_text(field: attrs.Attribute[Any]) -> bool:
    """Return whether the field can hold text or bytes, and thus a secret."""
    kinds = {field.type, *get_args(field.type)}
    return isinstance(field.type, str) or bool(kinds & {str, bytes, Any, None})
