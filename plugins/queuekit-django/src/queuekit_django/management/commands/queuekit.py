"""``manage.py queuekit worker``, ``check`` and so on: the command line of queuekit for an app of ``TASKS``."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.tasks import task_backends

from queuekit_django.backend import QueuekitBackend

__all__ = ["Command"]

_OF_MANAGE = ("--settings", "--pythonpath")
_ALIAS = "--task-backend"


class Command(BaseCommand):
    """Runs a command of queuekit with the app of an alias, ``default`` unless ``--task-backend`` names another."""

    help = "Run a command of queuekit, e.g. worker, check or queues, with the app that TASKS describes."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whatever follows."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER, help="a command of queuekit and its options")

    def run_from_argv(self, argv: list[str]) -> None:
        """Run ``manage.py queuekit ...``: options belong to queuekit, but for those that manage.py has read."""
        alias, rest = _split(argv[2:])
        _run(alias, rest, program=_program(argv[0]))

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command for ``call_command("queuekit", "worker", "--burst")``."""
        alias, rest = _split([*args, *options.get("arguments", ())])
        _run(alias, rest, program=_program("manage.py"))


def _split(words: list[str]) -> tuple[str | None, list[str]]:
    """Return the alias, if *words* name one, and the words that are for queuekit."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in (*_OF_MANAGE, _ALIAS):
        parser.add_argument(option)
    leading: list[str] = []
    words = list(words)
    while words and words[0].partition("=")[0] in {*_OF_MANAGE, _ALIAS}:
        leading.append(words.pop(0))
        if "=" not in leading[-1] and words:
            leading.append(words.pop(0))
    return parser.parse_args(leading).task_backend, words


def _program(path: str) -> tuple[str, ...]:
    """Return what starts *path*, the first word of ``sys.argv``, from a shell."""
    name = Path(path).name
    if name == "__main__.py":
        return ("python", "-m", "django", "queuekit")
    return ("python", path, "queuekit") if name.endswith(".py") else (name, "queuekit")


def _run(alias: str | None, words: list[str], *, program: tuple[str, ...]) -> None:
    from queuekit.cli import main
    from queuekit.cli.session import Session

    session = Session()
    session.started_as = program if alias is None else (*program, _ALIAS, alias)
    args = ["--app", f"queuekit_django.app:{alias or _only()}", *words]
    main.main(args=args, prog_name=shlex.join(program), obj=session)


def _only() -> str:
    """Return ``default``, or the only alias with this backend.

    Raises:
        CommandError: None has it, or several have.
    """
    found = [alias for alias in task_backends.settings if isinstance(task_backends[alias], QueuekitBackend)]
    if "default" in found or len(found) == 1:
        return "default" if "default" in found else found[0]
    if not found:
        raise CommandError('no entry of TASKS has the BACKEND "queuekit_django.QueuekitBackend"')
    raise CommandError(f"several entries of TASKS have this backend; choose one: {_ALIAS} {found[0]}")
