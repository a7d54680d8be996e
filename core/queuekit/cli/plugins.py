"""``queuekit plugins``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, Literal

import attrs
import click

from queuekit.cli.options import common_options, json_option, pass_session
from queuekit.cli.output import columns, echo, fields, print_json
from queuekit.cli.program import plugin_commands
from queuekit.cli.session import Session
from queuekit.errors import UnknownSchemeError
from queuekit.plugins.catalogue import Choice
from queuekit.plugins.factory import make_options, options_class, resolve, section_of, wrap_error
from queuekit.plugins.loading import PluginInfo, reason
from queuekit.plugins.support import steps
from queuekit.urls import EngineURL, is_secret

if TYPE_CHECKING:
    from queuekit.hookspecs import CommandSpec
    from queuekit.plugins.catalogue import Offer
    from queuekit.plugins.manager import Plugins

__all__ = ["command"]

HEADER = ("NAME", "FROM", "VERSION", "STATUS", "SERVES", "LOADED IN")


@click.group(invoke_without_command=True)
@json_option
@common_options
@pass_session
@click.pass_context
def command(context: click.Context, session: Session, *, as_json: bool) -> None:
    """List the plugins: what they serve, which commands they add, and why one cannot be used."""
    if context.invoked_subcommand is not None:
        return
    # Text that a plugin prints on import must not end up in the list.
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the list shows which plugins failed, and why
        plugins = session.any_app(lenient=True).plugins
        commands = plugin_commands(plugins)
        infos = plugins.infos()
    if as_json:
        print_json({"plugins": [_document(info) for info in infos], "commands": [spec.name for spec in commands]})
        return
    _print(infos, commands)


def _print(infos: Sequence[PluginInfo], commands: Sequence[CommandSpec]) -> None:
    click.echo(columns(HEADER, [_row(info) for info in infos], right=("LOADED IN",)))
    for info in infos:
        if info.error:
            echo(f"{info.name}: {info.error}")
    for spec in commands:
        echo(f"queuekit {spec.name}  {spec.help}")


@command.command("check")
@click.argument("url")
@json_option
@common_options
@pass_session
def check(session: Session, *, url: str, as_json: bool) -> None:
    """Show which plugin serves a URL, and with which options.

    Prints what the plugin does, what core does for it, and what is refused. Opens no connection: the service
    need not run.
    """
    parsed = EngineURL.parse(url, setting="URL")
    app = session.app()[0] if session.target else None  # it may load plugins and options of its own
    sides = dict(_sides(app.plugins if app else session.plugins(), parsed))
    tables = (app.config if app else session.config()).sections
    found = [options_class(offer.spec.options, label=offer.info.label) for offer in sides.values()]
    owners = [kind for kind in found if kind is not None]
    documents = {side: _side(parsed, offer, tables, owners) for side, offer in sides.items()}
    if as_json:
        print_json({"url": str(parsed), **documents})
        return
    for side, document in documents.items():
        _show(side, document)


def _sides(plugins: Plugins, url: EngineURL) -> Iterator[tuple[str, Offer[Any]]]:
    """Yield the offers that serve *url* as a broker and as a result backend.

    Raises:
        PluginError: No plugin serves it, or the plugin cannot be used.
    """
    broker = _offer(plugins, url, "broker")
    backend = _offer(plugins, url, "backend")
    if broker is None and backend is None:
        plugins.offer("broker", url, setting="URL")
    yield from ((side, offer) for side, offer in (("broker", broker), ("backend", backend)) if offer is not None)


def _offer(plugins: Plugins, url: EngineURL, side: Literal["broker", "backend"]) -> Offer[Any] | None:
    try:
        return plugins.offer(side, url, setting="URL")
    except UnknownSchemeError:
        return None


def _side(
    url: EngineURL, offer: Offer[Any], tables: Mapping[str, Mapping[str, Any]], owners: Sequence[type]
) -> dict[str, Any]:
    """Return one side as a document; *owners* are the option classes of both sides."""
    spec = offer.spec
    kind, table = options_class(spec.options, label=offer.info.label), tables.get(section_of(spec), {})
    _check_factory(url, offer)
    options = make_options(kind, url, table, owners=owners, setting="URL", label=offer.info.label)
    shown = attrs.asdict(options, recurse=False) if options is not None else {}
    return {
        "plugin": offer.info.label,
        "factory": spec.factory
        if isinstance(spec.factory, str)
        else f"{spec.factory.__module__}:{spec.factory.__name__}",
        "summary": spec.summary,
        "options": {name: "***" if is_secret(name) and value else value for name, value in shown.items()},
        "limits": attrs.asdict(spec.limits),
        "plan": {name: attrs.asdict(step) for name, step in steps(spec.capabilities).items()},
    }


def _check_factory(url: EngineURL, offer: Offer[Any]) -> None:
    """Import the factory of the engine, so that a misspelt name is reported now."""
    try:
        resolve(offer.spec.factory)
    except Exception as error:
        choice, shown = Choice(setting="URL", value=str(url)), f"{url.scheme}://"
        raise wrap_error(error, offer.info, shown=shown, choice=choice, text=url.hide(reason(error))) from error


def _show(side: str, document: dict[str, Any]) -> None:
    """Print one side, one fact per line."""
    plan: dict[str, dict[str, str]] = document["plan"]
    native = [name for name, step in plan.items() if step["how"] == "native"]
    rows = {
        side: f"{document['plugin']}: {document['summary']}",
        "made by": document["factory"],
        "options": _pairs(document["options"]),
        "limits": _pairs(document["limits"]),
        "native": ", ".join(native) or "nothing",
    }
    click.echo(fields(rows))
    left = [[step["how"], name, step["text"]] for name, step in plan.items() if step["how"] != "native"]
    if left:
        click.echo(columns(("HOW", "CAPABILITY", "WHAT HAPPENS"), sorted(left)))


def _pairs(values: Mapping[str, Any]) -> str:
    """Return the values that are set, in one line."""
    return ", ".join(f"{name}={value}" for name, value in values.items() if value is not None) or "none"


def _row(info: PluginInfo) -> list[str]:
    serves = ", ".join(dict.fromkeys(f"{scheme}://" for scheme in info.schemes))
    return [info.name, info.dist, info.version, info.status, serves, f"{info.load_ms:.1f} ms"]


def _document(info: PluginInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "distribution": info.dist or None,
        "version": info.version or None,
        "api": list(info.api) if info.api else None,
        "status": info.status,
        "error": info.error or None,
        "schemes": list(info.schemes),
        "hooks": list(info.hooks),
        "load_ms": info.load_ms,
    }
