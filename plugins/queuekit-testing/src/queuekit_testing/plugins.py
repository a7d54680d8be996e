"""The suite for plugins: what holds of the module that an entry point names, whatever it provides."""

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
"""Parts of the standard library that cost too much to import for nothing but a scheme."""
_QUICK = 0.020
"""Seconds of CPU that importing a plugin may cost over core."""
_TRIES = 5
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_SPECIFIER = re.compile(r"queuekit(?![\w-])(?:\[[^]]*\])?\s*\(?([^;)]*)")


class PluginConformance(PluginKit):
    """What every plugin must be: light, installable, honest about its options, and silent about passwords.

    Subclass it and name the module of the entry point::

        class TestPlugin(PluginConformance):
            plugin = "queuekit_example.plugin"

    Its engines are made and asked at an address where nobody answers. Give ``URLS`` where the usual form does not fit.
    """

    # -- loading -------------------------------------------------------------------------------------------------

    def test_declares_its_api(self, loaded: Plugin) -> None:
        """The module says for which version of the plugin API it was made, and this core offers it."""
        declared = getattr(loaded.module, "queuekit_api", None)

        assert declared is not None, f"add to {self.plugin}:  queuekit_api = {API_VERSION}"
        assert loaded.info.status == "ok"
        assert loaded.info.hooks, "it has no hooks: mark functions named as in queuekit.hookspecs with @hookimpl"

    def test_brings_no_client_library(self) -> None:
        """Importing it brings itself, core and what is quick: all plugins are imported to learn their schemes."""
        brought = self.import_alone().modules

        own = {self.plugin.partition(".")[0], *CORE}
        strange = {name.partition(".")[0] for name in brought} - own - sys.stdlib_module_names
        heavy = _HEAVY.intersection(brought)
        assert not strange, f"importing {self.plugin} imports {sorted(strange)}; name factories as text instead"
        assert not heavy, f"importing {self.plugin} imports {sorted(heavy)}; do that where it is used"

    def test_is_imported_quickly(self) -> None:
        """Importing it costs less than 20 ms of CPU over core, or half of core's own cost on a slow machine."""
        costs = []
        for _ in range(_TRIES):
            cost = self.import_alone()
            costs.append(cost.seconds)
            if cost.seconds < max(_QUICK, cost.core / 2):
                return
        pytest.fail(f"importing {self.plugin} took {min(costs) * 1000:.0f} ms of CPU over core's at best")

    def test_can_be_loaded_beside_core(self, plugins: Plugins) -> None:
        """It takes no scheme, serializer or command that core owns, and core's hooks accept it."""
        assert {info.status for info in plugins.infos()} == {"ok"}
        if not self.plugin.startswith("queuekit."):
            mine = {scheme for info in plugins.infos() if info.name == self.plugin for scheme in info.schemes}
            assert not mine & {"memory", "sqlite"}

    # -- distribution --------------------------------------------------------------------------------------------

    def test_has_one_entry_point(self, installed: Distribution) -> None:
        """Its distribution has one entry point in the group, which names the module."""
        points = installed.entry_points.select(group=GROUP)

        if self._in_core(installed):
            pytest.skip("part of core, which needs no entry point")
        assert [point.value for point in points] == [self.plugin]

    def test_says_which_core_it_fits(self, installed: Distribution) -> None:
        """It asks for a range of queuekit: from the one it was written for to the next that may break it."""
        if self._in_core(installed):
            pytest.skip("part of core")
        found = [match[1] for text in installed.requires or () if (match := _SPECIFIER.match(text))]

        assert found, 'it does not depend on queuekit: dependencies = ["queuekit>=0.1,<1"]'
        assert "==" not in found[0], f"queuekit{found[0]} keeps users from upgrading; write a range"
        assert "~=" in found[0] or (">" in found[0] and "<" in found[0]), f"queuekit{found[0]} is open at one end"

    def test_has_metadata(self, installed: Distribution) -> None:
        """It says in one line what it is, which Python it needs, and under which licence it comes."""
        metadata = installed.metadata

        assert metadata["Summary"], "project.description is missing"
        assert metadata["Requires-Python"], "project.requires-python is missing"
        assert metadata["License-Expression"] or metadata["License"], "project.license is missing"

    def test_is_typed(self) -> None:
        """Its package carries the marker ``py.typed``, so that type checkers read it."""
        spec = find_spec(self.plugin.partition(".")[0])

        assert spec is not None
        assert spec.origin is not None, "a package without __init__.py"
        assert Path(spec.origin).with_name("py.typed").is_file()

    # -- engines -------------------------------------------------------------------------------------------------

    def test_schemes_can_be_written(self, loaded: Plugin) -> None:
        """Each scheme is lower case, has no underscore, and is what a URL with it is parsed to."""
        for spec in self.specs(loaded):
            for scheme in spec.schemes:
                assert SCHEME.fullmatch(scheme), f"{scheme!r} is not {SCHEME.pattern}"
                assert EngineURL.parse(f"{scheme}://host/name").scheme == scheme

    def test_specs_have_a_summary(self, loaded: Plugin) -> None:
        """Each thing that it provides says in one short line what it is, for the list of plugins."""
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
        """Making an engine where nobody answers succeeds, and starts no thread and opens no file or connection."""
        for spec in self.specs(loaded):
            self.engine(plugins, spec).close()  # whatever is imported now is there
            threads, files = set(threading.enumerate()), _open_files()

            with closing(self.engine(plugins, spec)):
                started, opened = set(threading.enumerate()) - threads, _open_files() - files

            assert not started, f"{spec.factory} starts {started} before anything is asked of it"
            assert opened <= 0, f"{spec.factory} opens {opened} files before anything is asked of it"

    def test_says_itself_that_nobody_answers(self, loaded: Plugin, plugins: Plugins) -> None:
        """Where nobody answers, queuekit's own error is raised, not one of the client library's."""
        for spec in self.specs(loaded):
            with closing(self.engine(plugins, spec)) as engine:
                error = self.failure(engine)

            assert error is None or isinstance(error, QueuekitError), f"{spec.factory} raises {error!r}"

    def test_is_what_its_spec_says(self, loaded: Plugin, plugins: Plugins) -> None:
        """An engine is of the kind that its hook is for, and has the capabilities and limits of its spec."""
        for spec in self.specs(loaded):
            with closing(self.engine(plugins, spec)) as engine:
                assert isinstance(engine, Broker if isinstance(spec, BrokerSpec) else Backend)
                for name in _overclaims(spec.capabilities, engine.capabilities):
                    pytest.fail(f"the spec of {spec.schemes[0]}:// claims {name}, {spec.factory} does not")

    def test_can_be_closed_twice(self, loaded: Plugin, plugins: Plugins) -> None:
        """Closing an engine that was never used, twice, is fine."""
        for spec in self.specs(loaded):
            engine = self.engine(plugins, spec)
            engine.close()
            engine.close()

    # -- options -------------------------------------------------------------------------------------------------

    def test_options_have_defaults(self, loaded: Plugin) -> None:
        """A URL alone is enough: each option has a default, and its class is made by attrs."""
        for kind in filter(None, map(options_of, self.specs(loaded))):
            assert attrs.has(kind), f"{kind.__name__} is no attrs class"
            kind()

    def test_refuses_unknown_options(self, loaded: Plugin, plugins: Plugins) -> None:
        """An option that nobody knows is an error that names it, not something to pass on or to ignore."""
        for spec in self.specs(loaded):
            assert "nosuchoption" not in passthrough(options_of(spec))
            for scheme in spec.schemes:
                with pytest.raises(ConfigError) as caught:
                    self.make(plugins, spec, self.url(scheme, "nosuchoption=1")).close()
                assert "nosuchoption" in str(caught.value), f"{scheme}:// was refused, but not for its unknown option"

    def test_shows_no_password(self, loaded: Plugin, plugins: Plugins) -> None:
        """A password in the URL is in no ``repr``, no error and no traceback, whether the URL is refused or used."""
        for spec in self.specs(loaded):
            for scheme in spec.schemes:
                for text in self.utterances(plugins, spec, self.url(scheme)):
                    assert SECRET not in text, f"{scheme}:// shows the password of its URL"

    def test_options_show_no_password(self, loaded: Plugin) -> None:
        """An option that holds a secret, by its name, is left out of the ``repr`` of its class."""
        for kind in filter(None, map(options_of, self.specs(loaded))):
            shown = [field.name for field in attrs.fields(kind) if _may_be_text(field) and field.repr]
            loud = [name for name in shown if is_secret(name)]
            assert not loud, f"{kind.__name__}: attrs.field(..., repr=False) for {', '.join(loud)}"

    # -- the rest ------------------------------------------------------------------------------------------------

    def test_serializers_can_be_made(self, loaded: Plugin, plugins: Plugins) -> None:
        """Each serializer is what its spec says, by name and by safety."""
        for spec in loaded.serializers:
            made = plugins.make_serializer(spec.name, lambda _name: None, allow_unsafe=[spec.name])
            assert made.content_type == spec.name

    def test_commands_can_be_imported(self, plugins: Plugins) -> None:
        """Each command has a short name and a line of help, and what it names is a click command."""
        for spec in plugins.collect("queuekit_commands"):
            found = resolve(spec.command)

            assert _NAME.fullmatch(spec.name), f"{spec.name!r} is not {_NAME.pattern}"
            assert spec.help, f"the command {spec.name} has no help"
            assert isinstance(found if isinstance(found, click.Command) else found(), click.Command)

    def test_middlewares_can_be_made(self, plugins: Plugins) -> None:
        """Each middleware can be imported and made for an app that has no settings of its own."""
        with closing(Queuekit(broker="memory://conformance")) as app:
            specs = plugins.collect("queuekit_middlewares", config=app.config)

        for spec in specs:
            assert isinstance(resolve(spec.factory)(), Middleware), f"{spec.factory} makes no Middleware"
        assert not [info.error for info in plugins.infos() if info.status == "failed"]

    def _in_core(self, installed: Distribution) -> bool:
        return str(installed.name) == "queuekit"


def _open_files() -> int:
    """Return how many files, pipes and sockets this process has open; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.is_dir() else 0  # noqa: PTH208 - iterdir would open one more while counting


def _overclaims(promised: Any, kept: Any) -> list[str]:
    """Return the capabilities that *promised* has and *kept* has not."""
    return [
        field.name
        for field in attrs.fields(type(promised))
        if getattr(promised, field.name) and not getattr(kept, field.name)
    ]


def _may_be_text(field: attrs.Attribute[Any]) -> bool:
    """Return whether the field can hold text or bytes, and thus a secret."""
    kinds = {field.type, *get_args(field.type)}
    return isinstance(field.type, str) or bool(kinds & {str, bytes, Any, None})
