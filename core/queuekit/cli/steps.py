"""What commands have in common that change many messages step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click

from queuekit.logs.plaintext import clean
from queuekit.operations.admin import Admin
from queuekit.operations.dead_letters import parse_rate

__all__ = ["carry_out", "rate_option"]


def _rate(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else parse_rate(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=context, param=parameter) from None


rate_option: Callable[[Any], Any] = click.option(
    "--rate",
    metavar="N/UNIT",
    callback=_rate,
    help="Change no more than this many messages per time, e.g. 10/s or 100/m.",
)


def carry_out(admin: Admin, what: str, steps: Iterator[str], *, by: str | None, on: str) -> list[str]:
    """Print and return the ids that *steps* yields, and record the action, also if a step fails."""
    done: list[str] = []
    try:
        for id in steps:
            done.append(id)
            click.echo(clean(id))
    finally:
        if done:
            admin.acted(what, by=by, on=on, ids=done)
    return done
