"""``queuekit replay``."""

from __future__ import annotations

from pathlib import Path

import click

from queuekit.app import Queuekit
from queuekit.broker import Place
from queuekit.cli.options import common_options, engine_options, pass_session
from queuekit.cli.output import as_json as to_json
from queuekit.cli.output import echo
from queuekit.cli.session import Session, need_shared
from queuekit.client.codec import Message
from queuekit.context import Context
from queuekit.errors import DecodeError, OptionError, UnknownIdError
from queuekit.ids import new_id
from queuekit.operations.admin import Admin, MessageView
from queuekit.wire.signing import UnsignedError
from queuekit_dev.here import BodyError, call_here, fail

__all__ = ["command"]


@click.command()
@click.argument("id", metavar="ID")
@click.option("--pdb", "debug", is_flag=True, help="Enter the debugger where the task raises.")
@click.option("--save", metavar="FILE", help="Write the call to FILE as JSON, for a test, before it runs.")
@engine_options
@common_options
@pass_session
def command(session: Session, *, id: str, debug: bool, save: str | None) -> None:
    """Run the call of the dead letter ID here, and print its result. The dead letter stays as it is.

    What the task itself sends is dropped. A call that workers refuse as unsigned does not run. To queue the call again,
    use queuekit dlq retry.
    """
    app, _ = session.app()
    need_shared(app)
    view = Admin(app).show(id)
    _check_signature(app, view)
    message, context = _read(view)
    task = app.tasks.find(message.task)
    if save is not None:
        _save(app, message, Path(save))
        session.say(f"wrote {save}")
    app.close()
    here = f"memory://replay-{new_id()}"
    app.configure({"broker": here, "backend": here})
    try:
        value = call_here(task, message.args, message.kwargs, context=context, each=message.each)
    except BodyError as error:
        _report_dropped(session, app)
        fail(task.name, error, debug=debug)
    _report_dropped(session, app)
    echo(value if isinstance(value, str) else to_json(value))


def _check_signature(app: Queuekit, view: MessageView) -> None:
    """Raise unless the message is signed as a worker requires it.

    Raises:
        UnsignedError: Says what is wrong.
    """
    signing = app.runtime.signing
    if signing is None or view.queued is None:
        return
    try:
        signing.check_message(view.queued.stored.envelope.body)
    except UnsignedError as error:
        what = f"{view.info.id!r} is not run: {error.what}"
        raise UnsignedError(what, fix=f"If it is yours:  queuekit dlq retry --sign {view.info.id}") from error


def _read(view: MessageView) -> tuple[Message, Context]:
    """Return the call of a dead letter, and a context as its body had.

    Raises:
        UnknownIdError: It is not a dead letter.
        DecodeError: Its bytes cannot be read here.
    """
    queued, message = view.queued, view.message
    if queued is None or queued.stored.place is not Place.DEAD:
        raise UnknownIdError(f"{view.info.id!r} is not a dead letter", fix="See:  queuekit dlq ls")
    if message is None:
        raise DecodeError(f"the dead letter {view.info.id!r} cannot be read here")
    if message.gather is not None:
        raise DecodeError(f"the arguments of {view.info.id!r} are results of a group, which it does not hold")
    message.open()
    envelope = queued.stored.envelope
    context = Context(
        id=message.id,
        task=message.task,
        queue=envelope.queue,
        attempt=envelope.attempt,
        generation=envelope.generation,
    )
    context.headers, context.parent = message.headers, message.parent
    return message, context


def _save(app: Queuekit, message: Message, path: Path) -> None:
    """Write the call as the app's serializer writes it.

    Raises:
        OptionError: The serializer writes no text.
    """
    serializer = app.runtime.serializer
    data = serializer.dumps({"task": message.task, "args": message.args, "kwargs": message.kwargs})
    if serializer.content_type != "json":
        raise OptionError(f"--save writes JSON, and the app's serializer is {serializer.content_type!r}")
    path.write_bytes(data + b"\n")


def _report_dropped(session: Session, app: Queuekit) -> None:
    broker = app.runtime.broker
    counts = broker.counts(broker.queues()).values()
    dropped = sum((each.ready or 0) + (each.delayed or 0) for each in counts)
    if dropped:
        session.say(f"dropped what it sent: {dropped}")
