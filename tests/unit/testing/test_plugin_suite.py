"""The suite for plugins bites: a fault that is planted in a plugin is caught by a named test; a right one passes."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from queuekit.broker import Capabilities
from queuekit.errors import PluginError, UnavailableError, UnknownSchemeError
from queuekit.hookspecs import CommandSpec, MiddlewareSpec, SerializerSpec, hookimpl
from queuekit.plugins.loading import load_object
from queuekit.plugins.manager import Plugins
from queuekit.serializer import JsonSerializer
from queuekit.testing import BackendConformance, BrokerConformance, PluginConformance
from queuekit_testing.engines import new_broker
from support.plugin_site import NullBroker, NullPlugin, Options


@attrs.frozen
class LoudOptions:
    """Options whose repr shows a secret."""

    password: str = ""


@attrs.frozen
class Swallowing:
    """Options of which the client library is to get whatever is there."""

    queuekit_passthrough = frozenset({"nosuchoption"})


@attrs.frozen
class NeedyOptions:
    """Options that cannot be made without help."""

    host: str


class Threaded(NullBroker):
    """A broker that starts a thread when it is made."""

    def __init__(self, url: Any, **arguments: Any) -> None:
        super().__init__(url, **arguments)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.stop.wait, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """End the thread."""
        self.stop.set()
        self.thread.join()


class Leaky(NullBroker):
    """A broker that opens a file when it is made."""

    def __init__(self, url: Any, **arguments: Any) -> None:
        super().__init__(url, **arguments)
        self.file = Path("/dev/null").open("rb")  # noqa: SIM115 - the fault

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class Talkative(NullBroker):
    """A broker that shows its URL."""

    def __repr__(self) -> str:
        return f"Talkative({self.made_with[0].raw})"


class Raw(NullBroker):
    """A broker that lets the errors of its client through."""

    def send(self, envelopes: Any) -> list[str]:
        """Fail."""
        raise OSError("connection refused")


class Telltale(NullBroker):
    """A broker that quotes its URL in an error."""

    def send(self, envelopes: Any) -> list[str]:
        """Fail."""
        raise UnavailableError("no answer") from OSError(self.made_with[0].raw)


class Fragile(NullBroker):
    """A broker that can be closed once."""

    closed = False

    def close(self) -> None:
        """Fail the second time."""
        assert not self.closed
        self.closed = True


class Modest(NullBroker):
    """A broker that does less than its spec says."""

    capabilities = Capabilities(fenced_ack=False)


class OtherName(JsonSerializer):
    """A serializer whose content type is not its name."""

    content_type = "other"


class Extras:
    """A plugin that provides nothing but what is not an engine."""

    def __init__(self, *, serializer: Any = None, command: Any = None, middleware: Any = None) -> None:
        self.serializer, self.command, self.middleware = serializer, command, middleware

    @hookimpl
    def queuekit_serializers(self) -> list[SerializerSpec]:
        """Return a serializer."""
        specs = [SerializerSpec(name="null", factory=self.serializer, summary="nothing")]
        return specs if self.serializer else []

    @hookimpl
    def queuekit_commands(self) -> list[CommandSpec]:
        """Return a command."""
        return [CommandSpec(name="Null!", help="", command=self.command)] if self.command else []

    @hookimpl
    def queuekit_middlewares(self) -> list[MiddlewareSpec]:
        """Return a middleware."""
        return [MiddlewareSpec(name="null", factory=self.middleware)] if self.middleware else []


GOOD = {"summary": "keeps nothing", "options": Options}
FAULTS: dict[str, tuple[str, Any, str]] = {
    "no-summary": ("specs_have_a_summary", NullPlugin(), "has no summary"),
    "long-summary": ("specs_have_a_summary", NullPlugin(summary="word " * 50), "100"),
    "factory-of-nothing": ("factories_take_what_core_gives", NullPlugin(**GOOD, factory=dict.fromkeys), "argument"),
    "thread": ("opens_nothing_when_made", NullPlugin(**GOOD, factory=Threaded), "starts .* before the first call"),
    "file": ("opens_nothing_when_made", NullPlugin(**GOOD, factory=Leaky), "opens 1 files"),
    "error-of-client": ("says_itself_that_nobody_answers", NullPlugin(**GOOD, factory=Raw), "raises OSError"),
    "over-claim": ("is_what_its_spec_says", NullPlugin(**GOOD, factory=Modest), "declares fenced_ack"),
    "closes-once": ("can_be_closed_twice", NullPlugin(**GOOD, factory=Fragile), "closed"),
    "no-defaults": ("options_have_defaults", NullPlugin(options=NeedyOptions), "host"),
    "no-attrs-class": ("options_have_defaults", NullPlugin(options=dict), "must be an attrs class"),
    "swallows-options": ("refuses_unknown_options", NullPlugin(options=Swallowing), "nosuchoption"),
    "password-in-repr": ("shows_no_password", NullPlugin(**GOOD, factory=Talkative), "shows the password"),
    "password-in-cause": ("shows_no_password", NullPlugin(**GOOD, factory=Telltale), "shows the password"),
    "password-in-options": ("options_show_no_password", NullPlugin(options=LoudOptions), "repr=False"),
    "serializer-of-other-name": ("serializers_can_be_made", Extras(serializer=OtherName), "content type is 'other'"),
    "command-of-odd-name": ("commands_can_be_imported", Extras(command=print), "'Null!' is not"),
    "middleware-of-nothing": ("middlewares_can_be_made", Extras(middleware=dict), "makes no Middleware"),
    "no-api": ("declares_its_api", NullPlugin(), "queuekit_api = "),
}
"""Fault -> the test that must catch it, the plugin that has it, and what the test says."""


class Suite(PluginConformance):
    """The suite, run by hand."""

    plugin = "null"


def arguments_of(plugin: object) -> dict[str, Any]:
    """Return what the fixtures of the suite would give."""
    loaded = load_object(plugin, name="null")
    plugins = Plugins(entry_points=list, environ={})
    plugins.register(plugin, "null")
    return {"loaded": loaded, "plugins": plugins}


def run(test: str, plugin: object) -> None:
    """Run one test of the suite on *plugin*."""
    given = arguments_of(plugin)
    method: Callable[..., None] = getattr(Suite(), f"test_{test}")
    code = method.__code__
    method(**{name: given[name] for name in code.co_varnames[1 : code.co_argcount]})


@pytest.mark.parametrize(("test", "plugin", "text"), FAULTS.values(), ids=FAULTS.keys())
def test_catches(test: str, plugin: object, text: str) -> None:
    """The test that is named fails on a plugin with this fault, and says what it is."""
    with pytest.raises((AssertionError, pytest.fail.Exception, TypeError, PluginError), match=text):
        run(test, plugin)


@pytest.mark.parametrize("test", sorted({test for test, _, _ in FAULTS.values()} - {"declares_its_api"}))
def test_accepts_a_right_one(test: str) -> None:
    """A plugin without a fault passes each of these tests."""
    run(test, NullPlugin(**GOOD))


def test_refuses_a_client_library_and_what_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that imports what is neither its own, core's nor quick is caught by name."""
    (tmp_path / "heavy_plugin.py").write_text("import asyncio, hypothesis\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    suite = Suite()
    suite.plugin = "heavy_plugin"

    with pytest.raises(AssertionError, match="hypothesis"):
        suite.test_brings_no_client_library()


def test_refuses_what_is_slow_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that computes for longer than core's own import is caught."""
    (tmp_path / "slow_plugin.py").write_text(
        "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("queuekit_testing.plugins._TRIES", 2)
    suite = Suite()
    suite.plugin = "slow_plugin"

    with pytest.raises(pytest.fail.Exception, match="ms of CPU"):
        suite.test_is_imported_quickly()


@pytest.mark.parametrize(
    ("suite", "make"),
    [
        pytest.param(BrokerConformance, "make_broker", id="broker"),
        pytest.param(BackendConformance, "make_backend", id="backend"),
    ],
)
def test_makes_clients_from_a_url(suite: type[Any], make: str) -> None:
    """A suite that is given a URL makes its clients as an app would; one that is given nothing says what it needs."""
    with_url, without = suite(), suite()
    with_url.url = "memory://conformance"

    client = getattr(with_url, make)()

    assert type(client).__module__.startswith("queuekit.engines.memory")
    with pytest.raises(NotImplementedError, match="does not name its server"):
        getattr(without, make)()


def test_says_that_a_plugin_must_be_installed() -> None:
    """A scheme that nobody serves here reminds the author of a plugin to install it."""
    with pytest.raises(UnknownSchemeError) as caught:
        new_broker("nosuch://localhost")

    assert "pip install -e ." in caught.value.fix
