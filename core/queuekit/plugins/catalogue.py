"""Looks up the plugin that serves a URL or a name; if there is none, the error says how to get one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from queuekit.errors import PluginError, SchemeConflictError, UnknownSchemeError, did_you_mean
from queuekit.hookspecs import API_VERSION, BackendSpec, BrokerSpec, SerializerSpec
from queuekit.plugins.foreign import instead_of
from queuekit.plugins.loading import Plugin, PluginInfo, canonical
from queuekit.urls import EngineURL
from queuekit.values import frozen

__all__ = ["EXTRAS", "Catalogue", "Choice", "Offer", "install_line"]

EXTRAS = {
    **dict.fromkeys(("redis", "rediss", "redis+unix", "redis+sentinel", "redis+cluster"), "redis"),
    **dict.fromkeys(("sqs", "sqs+http", "sqs+https", "dynamodb", "dynamodb+http", "dynamodb+https"), "sqs"),
    **dict.fromkeys(("mongodb", "mongodb+srv"), "mongo"),
    **dict.fromkeys(("amqp", "amqps"), "amqp"),
    **dict.fromkeys(("memcache", "memcached", "memcache+tls", "memcache+unix"), "memcached"),
}
"""Extra of queuekit that provides a scheme. Only for hints: any plugin may serve these schemes."""
_ONE_SIDED = {
    **dict.fromkeys(("amqp", "amqps", "sqs"), "broker"),
    **dict.fromkeys(("dynamodb", "memcache", "memcached"), "backend"),
}
_OTHER_SIDE = {"broker": "backend", "backend": "broker"}
_NOUNS = {"broker": "broker", "backend": "result backend", "serializer": "serializer"}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)

Spec = TypeVar("Spec", BrokerSpec, BackendSpec, SerializerSpec)


@frozen
class Offer(Generic[Spec]):
    """A spec and the plugin that provides it."""

    spec: Spec
    info: PluginInfo


@frozen(kw_only=True)
class Choice:
    """A configured value and its origin, for errors."""

    setting: str
    value: str
    """The value without secrets."""
    origin: str = ""
    """File, variable, ...; empty if unknown."""

    def __str__(self) -> str:
        origin = f" from {self.origin}" if self.origin else ""
        return f'{self.setting} = "{self.value}"{origin}'


Table = dict[str, list[Offer[Spec]]]


class Catalogue:
    """The offers of all loaded plugins, by scheme and by name.

    Args:
        plugins: All plugins: loaded, failed and disabled.
        prefer: Distribution or plugin to use for a scheme or serializer that several provide.
        left_out: Returns the plugins that were not searched for; called only before an error.
    """

    def __init__(
        self, plugins: Sequence[Plugin], *, prefer: Mapping[str, str], left_out: Callable[[], Iterable[Plugin]]
    ) -> None:
        self._prefer = prefer
        self._left_out = left_out
        self._unusable = [plugin for plugin in plugins if plugin.info.status != "ok"]
        self.offers: dict[str, Table[Any]] = {"broker": {}, "backend": {}, "serializer": {}}
        for plugin in plugins:
            if plugin.info.status == "ok":
                self._add("broker", plugin.info, plugin.brokers)
                self._add("backend", plugin.info, plugin.backends)
                self._add("serializer", plugin.info, plugin.serializers)

    def _add(self, side: str, info: PluginInfo, specs: Iterable[Any]) -> None:
        for spec in specs:
            for key in (spec.name,) if side == "serializer" else spec.schemes:
                self.offers[side].setdefault(key, []).append(Offer(spec, info))

    def offer(self, side: str, wanted: EngineURL | str, choice: Choice) -> Offer[Any]:
        """Return the offer that serves the URL *wanted* as a broker or backend, or the serializer of that name.

        Raises:
            UnknownSchemeError: No plugin serves it.
            PluginError: The plugin that would serve it is disabled or failed to load.
            SchemeConflictError: Several plugins serve it, and none is preferred.
        """
        key = wanted if isinstance(wanted, str) else wanted.scheme
        if key not in self.offers[side]:
            self._reject(key, side, choice, url=None if isinstance(wanted, str) else wanted)
        return self._pick(self.offers[side][key], key, choice, shown=_shown(key, side))

    def unusable(self, scheme: str) -> Plugin | None:
        """Return the failed or disabled plugin that, by its name, would serve *scheme*; ``None`` if there is none."""
        names = {canonical(name) for name in (scheme, scheme.partition("+")[0], EXTRAS.get(scheme, scheme))}
        names |= {f"queuekit-{name}" for name in names}
        for plugin in (*self._unusable, *self._left_out()):
            known_as = {canonical(plugin.info.name.partition("@")[0]), canonical(plugin.info.dist)}
            if names & known_as:
                return plugin
        return None

    def _pick(self, offers: list[Offer[Spec]], key: str, choice: Choice, *, shown: str) -> Offer[Spec]:
        wanted = self._prefer.get(key)
        line = f"plugins.prefer.{key if _BARE_KEY.fullmatch(key) else json.dumps(key)}"
        owners = sorted(offer.info.owner for offer in offers)
        if wanted is not None:
            names = canonical(wanted)
            offers = [offer for offer in offers if names in {canonical(offer.info.dist), canonical(offer.info.name)}]
            if not offers:
                what = f"{line} names {wanted!r}, which does not provide {shown}"
                raise PluginError(what, where=str(choice), available=", ".join(owners))
        if len(offers) > 1:
            fix = f'Pick one:  {line} = "{owners[0]}"'
            raise SchemeConflictError(f"{shown} is claimed by {' and '.join(owners)}", where=str(choice), fix=fix)
        return offers[0]

    def _reject(self, key: str, side: str, choice: Choice, *, url: EngineURL | None) -> None:
        """Raise the most helpful error about *key*, a scheme or name that no plugin provides as *side*."""
        mine, others = self.offers[side], self.offers.get(_OTHER_SIDE.get(side, ""), {})
        available, shown = ", ".join(_first_schemes(mine)), _shown(key, side)
        wrong_side = _wrong_side(key, side, key in others)
        if wrong_side:
            what = f"{shown} is a {_NOUNS[wrong_side]} only, not a {_NOUNS[side]}"
            fix = f"Set {choice.setting} to an available one" + (', or to "none"' if side == "backend" else "")
            raise UnknownSchemeError(what, where=str(choice), fix=fix, available=available)
        plugin = self.unusable(key)
        if plugin is not None:
            raise _unusable_error(plugin, key, shown, choice) from plugin.failure
        fix = install_line(key) or (instead_of(url, side) if url is not None else "") or _suggest(key, mine)
        what = f"no plugin handles '{shown}'" if side != "serializer" else f"no plugin provides {shown}"
        raise UnknownSchemeError(what, where=str(choice), fix=fix, available=available)


def install_line(scheme: str) -> str:
    """Return the command that installs a plugin for *scheme*, or an empty string."""
    return f"Install it:  pip install 'queuekit[{EXTRAS[scheme]}]'" if scheme in EXTRAS else ""


def _shown(key: str, side: str) -> str:
    return f"serializer {key!r}" if side == "serializer" else f"{key}://"


def _first_schemes(table: Mapping[str, object]) -> list[str]:
    """Return the schemes to list, without their variants, built-in ones first."""
    return list(dict.fromkeys(key for key in table if key.partition("+")[0] == key))


def _wrong_side(key: str, side: str, elsewhere: bool) -> str:  # noqa: FBT001 - private, with a single caller
    """Return the side that *key* serves if it serves only the other side than *side*; else an empty string."""
    if elsewhere:
        return _OTHER_SIDE[side]
    only = _ONE_SIDED.get(key.partition("+")[0], side)
    return only if side in {"broker", "backend"} and only != side else ""


def _suggest(key: str, mine: Mapping[str, object]) -> str:
    """Return a guess at the intended name, and how to install it if it is missing."""
    guess = did_you_mean(key, [*mine, *EXTRAS])
    meant = guess.split("'")[1] if guess else ""
    install = install_line(meant) if meant not in mine else ""
    return "\n".join(filter(None, [guess[:1].upper() + guess[1:], install]))


def _unusable_error(plugin: Plugin, key: str, shown: str, choice: Choice) -> PluginError:
    info = plugin.info
    if info.status == "disabled":
        rule = info.error.rpartition(" ")[2]  # the text ends with the setting or variable of the rule
        fix = f"Add it to {rule}" if info.error.startswith("not") else f"Remove it from {rule}"
        what = f"the plugin for {shown} ({info.label}) is installed but {info.error}"
        return PluginError(what, where=str(choice), fix=fix)
    what = f"the plugin for {shown} ({info.label}) is installed but failed to load: {info.error}"
    return PluginError(what, where=str(choice), fix=_fix(plugin, key))


def _fix(plugin: Plugin, key: str) -> str:
    """Return the fix for a plugin that failed to load."""
    dist = plugin.info.dist
    if not dist:
        return "See:  queuekit plugins"
    if plugin.info.api is not None and plugin.info.api > API_VERSION:
        return "Upgrade queuekit:  pip install --upgrade queuekit"
    if isinstance(plugin.failure, ImportError):
        again = f"Reinstall it:  pip install --force-reinstall {dist}\nOr remove it:  pip uninstall {dist}"
        return install_line(key) or again
    return f"Upgrade it:  pip install --upgrade {dist}"
