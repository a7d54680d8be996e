"""``queuekit`` tells what it can do, quickly, and finds the commands that plugins add."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from queuekit.cli import main
from queuekit.cli.program import COMMANDS
from support import commands

HEAVY = ("asyncio", "sqlite3", "importlib.metadata", "queuekit.supervisor", "queuekit.worker", "queuekit.testing")

PLUGIN = '''
import click

from queuekit.hookspecs import CommandSpec, hookimpl

queuekit_api = (1, 0)


@click.command()
@click.argument("name")
def hello(name):
    """Greet."""
    click.echo(f"hello {name}")


def bye():
    """Make a command."""
    return click.Command("bye", callback=lambda: click.echo("bye"))


@hookimpl
def queuekit_commands():
    return [
        CommandSpec(name="hello", help="Greet somebody.", command="hello_plugin:hello"),
        CommandSpec(name="bye", help="Take leave.", command=bye),
        CommandSpec(name="worker", help="Never seen.", command="hello_plugin:hello"),
    ]
'''
GREETER = {"hello_plugin.py": PLUGIN, "queuekit.toml": '[plugins]\nload = ["hello_plugin"]\n'}


def all_commands() -> Iterator[tuple[str, click.Command]]:
    """Yield each command and subcommand with its whole name."""
    context = click.Context(main, info_name="queuekit")
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", found) for sub, found in command.commands.items())


def test_help_imports_little() -> None:
    """``--help`` needs neither an event loop nor an engine, a worker or a look at what is installed."""
    script = f"""
import sys
from queuekit.cli import main
try:
    main(["--help"])
except SystemExit as end:
    print([name for name in {HEAVY} if name in sys.modules], end.code, file=sys.stderr)
"""

    done = subprocess.run(
        [sys.executable, "-c", script], env=commands.environment(), capture_output=True, text=True, check=False
    )

    assert done.stderr == "[] 0\n"
    assert "Run tasks until told to stop." in done.stdout


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",)], ids=["nothing", "long", "short"])
def test_help_lists_every_command(args: tuple[str, ...], tmp_path: Path) -> None:
    """Without a command, and when asked, ``queuekit`` lists what there is and ends well."""
    done = commands.queuekit(*args, folder=tmp_path)

    listed = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert listed >= set(COMMANDS)
    assert (done.returncode, done.stderr) == (0, "")


def test_version_is_told(tmp_path: Path) -> None:
    """``--version`` names the program, even where it runs without being installed."""
    done = commands.queuekit("--version", folder=tmp_path)

    assert done.stdout.startswith("queuekit")
    assert done.returncode == 0


@pytest.mark.parametrize(("name", "command"), [pytest.param(*found, id=found[0]) for found in all_commands()])
def test_every_command_and_option_is_explained(name: str, command: click.Command) -> None:
    """No command and no option lacks its help."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]

    assert command.help, name
    assert not [option.name for option in options if not option.help]


def test_list_of_commands_is_of_core_alone(tmp_path: Path) -> None:
    """The list loads no plugin, so that it stays quick; it says where to look for their commands."""
    commands.write(tmp_path, GREETER)

    done = commands.queuekit("--help", folder=tmp_path)

    assert "hello" not in done.stdout
    assert "queuekit plugins lists them" in done.stdout


def test_command_of_a_plugin_runs(tmp_path: Path) -> None:
    """A name that is not one of core's is looked for among the plugins."""
    commands.write(tmp_path, GREETER)

    named = commands.queuekit("hello", "Ada", folder=tmp_path, PYTHONPATH=python_path(tmp_path))
    made = commands.queuekit("bye", folder=tmp_path, PYTHONPATH=python_path(tmp_path))

    assert (named.stdout, named.returncode) == ("hello Ada\n", 0)
    assert (made.stdout, made.returncode) == ("bye\n", 0)


def test_plugin_cannot_replace_a_command(tmp_path: Path) -> None:
    """A plugin that offers a name of core's is not asked."""
    commands.write(tmp_path, GREETER)

    done = commands.queuekit("worker", "--help", folder=tmp_path, PYTHONPATH=python_path(tmp_path))

    assert "Run tasks of APP until told to stop." in done.stdout


def test_unknown_command_may_have_meant_one_of_a_plugin(tmp_path: Path) -> None:
    """Commands of plugins are among the suggestions."""
    commands.write(tmp_path, GREETER)

    done = commands.queuekit("helo", folder=tmp_path, PYTHONPATH=python_path(tmp_path))

    assert "Did you mean 'hello'?" in done.stderr
    assert done.returncode == 2


def test_unknown_command_is_told_despite_a_bad_config(tmp_path: Path) -> None:
    """A config that cannot be used does not hide that the command is misspelt."""
    commands.write(tmp_path, {"queuekit.toml": "brokr = 1\n"})

    done = commands.queuekit("wroker", folder=tmp_path)

    assert "Did you mean 'worker'?" in done.stderr
    assert done.returncode == 2


def test_plugins_are_listed_with_their_commands_and_failures(tmp_path: Path) -> None:
    """``queuekit plugins`` shows what each serves, the commands that plugins add, and needs no app."""
    commands.write(tmp_path, GREETER | {"tasks.py": "raise RuntimeError('no app today')\n"})

    text = commands.queuekit("plugins", folder=tmp_path, PYTHONPATH=python_path(tmp_path))
    document = commands.queuekit("plugins", "--json", folder=tmp_path, PYTHONPATH=python_path(tmp_path))

    assert "memory://, sqlite://" in text.stdout
    assert "queuekit hello  Greet somebody." in text.stdout
    assert "no app today" in text.stderr
    assert {"builtin", "hello_plugin"} <= {plugin["name"] for plugin in json.loads(document.stdout)["plugins"]}
    assert json.loads(document.stdout)["commands"] == ["hello", "bye"]


def python_path(folder: Path) -> str:
    """Return a path on which the plugin in *folder* can be imported, beside core."""
    return f"{folder}:{commands.environment()['PYTHONPATH']}"
