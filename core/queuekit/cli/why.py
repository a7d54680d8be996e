"""``queuekit why``."""

from __future__ import annotations

from typing import Any

import click

from queuekit.cli.options import common_options, engine_options, json_option, pass_session
from queuekit.cli.output import moment, one_line, print_json, when
from queuekit.cli.session import Session
from queuekit.logs.plaintext import clean
from queuekit.operations.why import Facts, Reason, collect, reasons

__all__ = ["command"]


@click.command()
@click.argument("id", metavar="ID")
@json_option
@engine_options
@common_options
@pass_session
def command(session: Session, *, id: str, as_json: bool) -> int:
    """Explain in one sentence why the message ID does not run, and what to do about it.

    --json gives all reasons that hold. Exits with 1 if nothing is known of the id.
    """
    facts = collect(session.admin(), id)
    found = reasons(facts)
    if as_json:
        print_json({"id": id, "reasons": [_document(session, reason) for reason in found]})
    else:
        click.echo(clean(_sentence(found[0], facts)))
        if len(found) > 1:
            session.say(f"also  {', '.join(reason.code for reason in found[1:])}: --json explains each")
        if found[0].command:
            session.say(f"next  {session.command(found[0].command)}")
    return 1 if facts.view is None else 0


def _sentence(reason: Reason, facts: Facts) -> str:
    since = f", {when(reason.since, now=facts.now)}" if reason.since is not None else ""
    past = reason.until is not None and reason.until < facts.now
    word = (_PAST if past else _UNTIL).get(reason.code, "until")
    until = f", {word} {when(reason.until, now=facts.now)}" if reason.until else ""
    return f"{facts.id}: {one_line(reason.text, width=500)}{since}{until}."


_PAST = {"running": "its lease ended", "leased": "its lease ended"}
_UNTIL = {
    "delayed": "due",
    "running": "its lease ends",
    "leased": "its lease ends",
    "limited": "its turn is",
    "behind": "at that rate its turn is",
}


def _document(session: Session, reason: Reason) -> dict[str, Any]:
    return {
        "code": reason.code,
        "text": reason.text,
        "since": moment(reason.since),
        "until": moment(reason.until),
        "command": session.command(reason.command) if reason.command else None,
    }
