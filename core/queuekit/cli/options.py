"""Options that several commands share, and the types of their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from queuekit import durations
from queuekit.cli.session import Session
from queuekit.errors import OptionError
from queuekit.ids import LONGEST_PERSON, check_length
from queuekit.operations.filters import Filter, parse_filter
from queuekit.urls import mask

__all__ = [
    "as_option",
    "common_options",
    "duration_option",
    "engine_options",
    "filter_argument",
    "json_option",
    "pass_session",
    "queue_option",
    "store",
]

F = TypeVar("F", bound=Callable[..., Any])

pass_session = click.make_pass_decorator(Session)
"""Hands a command its :class:`~queuekit.cli.session.Session`."""


def store(setting: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return a callback that stores an option's value as *setting*, which overrides all other sources."""

    def callback(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            context.ensure_object(Session).overrides[setting] = value

    return callback


def duration_option(name: str, *, setting: str | None = None, help: str) -> Callable[[F], F]:  # noqa: A002 - as click
    """Return an option for seconds, or text such as ``1h30m``; its value is stored as *setting*, if given."""

    def callback(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
        try:
            seconds = None if value is None else durations.parse(value)
        except durations.DurationError as error:
            raise click.BadParameter(error.what, ctx=context, param=parameter) from None
        if setting is not None and seconds is not None:
            context.ensure_object(Session).overrides[setting] = seconds
        return seconds

    return click.option(name, metavar="DURATION", callback=callback, expose_value=setting is None, help=help)


def _by(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    try:
        check_length(value or "", most=LONGEST_PERSON, what="the name")
    except OptionError as error:
        raise click.BadParameter(error.what, ctx=context, param=parameter) from None
    return value


def _filter(context: click.Context, parameter: click.Parameter, terms: tuple[str, ...]) -> Filter:
    try:
        return parse_filter(terms)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=context, param=parameter) from None


filter_argument: Callable[[Any], Any] = click.argument("wanted", metavar="[FILTER]...", nargs=-1, callback=_filter)
"""Filters such as ``task:mail.*``."""


def _target(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Session).target = value


def _config(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Session).config_path = value


def _settings(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> None:
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{mask(value)!r} is not KEY=VALUE", ctx=context, param=parameter)
        context.ensure_object(Session).overrides[key] = text


def _traceback(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click calls it
    if value:
        context.ensure_object(Session).full_traceback = True


def _all(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator that applies *decorators*, the first of them outermost."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


common_options: Callable[[Any], Any] = _all(
    click.option(
        "-A",
        "--app",
        metavar="MODULE:ATTRIBUTE",
        expose_value=False,
        callback=_target,
        help="App to use, e.g. tasks:app.",
    ),
    click.option(
        "--config",
        metavar="FILE",
        expose_value=False,
        callback=_config,
        help="Config file to read instead of queuekit.toml.",
    ),
    click.option(
        "--set",
        metavar="KEY=VALUE",
        multiple=True,
        expose_value=False,
        callback=_settings,
        help="Override a setting, e.g. worker.concurrency=4. Repeatable.",
    ),
    click.option(
        "--full-traceback",
        is_flag=True,
        expose_value=False,
        callback=_traceback,
        help="Show the Python traceback of an error. Same as QUEUEKIT_DEBUG=1.",
    ),
)
"""``--app``, ``--config``, ``--set`` and ``--full-traceback``: allowed before a command and after it."""

engine_options: Callable[[Any], Any] = _all(
    click.option("--broker", metavar="URL", expose_value=False, callback=store("broker"), help="Broker to use."),
    click.option(
        "--backend",
        metavar="URL",
        expose_value=False,
        callback=store("backend"),
        help='Result backend to use; "none" for no results.',
    ),
)
"""``--broker`` and ``--backend``: override those of the config."""

json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
as_option: Callable[[Any], Any] = click.option(
    "--as",
    "by",
    metavar="NAME",
    callback=_by,
    help=f"Who does this, for the record; at most {LONGEST_PERSON} characters. Default: user@host.",
)
queue_option: Callable[[Any], Any] = click.option("--queue", metavar="NAME", help="Only this queue.")
