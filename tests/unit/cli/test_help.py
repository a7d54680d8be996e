"""``queuekit`` tells what it can do, quickly, and finds the commands that plugins add."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from queuekit.cli import main
from queuekit.cli.program import COMMANDS, EXTRAS
from support import commands
from support.plugin_site import PluginSite

HEAVY = (
    "asyncio",
    "sqlite3",
    "importlib.metadata",
    "queuekit.worker.supervisor",
    "queuekit.worker",
    "queuekit.testing",
)

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
    return click.Command("bye", callback=lambda: print("bye"))


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
before = set(sys.modules)
from queuekit.cli import main
try:
    main(["--help"])
except SystemExit as end:
    print([name for name in {HEAVY} if name in set(sys.modules) - before], end.code, file=sys.stderr)
"""

    done = subprocess.run(
        [sys.executable, "-c", script], env=commands.environment(), capture_output=True, text=True, check=False
    )

    assert done.stderr == "[] 0\n"
    assert "Run tasks until told to stop." in done.stdout


def test_supervisor_imports_nothing_that_runs_tasks() -> None:
    """What only its processes need would cost each start their time, and each worker their memory."""
    script = """
import sys
import queuekit.cli.worker
runs = ("queuekit.execution.executor", "queuekit.worker.worker", "queuekit.worker.thread_pool", "asyncio")
print([name for name in runs if name in sys.modules])
"""

    done = subprocess.run(
        [sys.executable, "-c", script], env=commands.environment(), capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("[]\n", "")


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
    assert command.name == name.rsplit(maxsplit=1)[-1]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]

    assert command.help, name
    assert not [option.name for option in options if not option.help]


def test_every_command_refuses_a_long_name_of_a_person() -> None:
    """Before it does anything: the name goes into records that others read."""
    options = [(each, one) for _, each in all_commands() for one in each.params if "--as" in one.opts]

    for command, option in options:
        with pytest.raises(click.BadParameter, match="has 201 characters, above the limit of 200"):
            option.process_value(click.Context(command), "x" * 201)

    assert len(options) >= 9


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


def test_plugin_is_found_beside_the_config(tmp_path: Path) -> None:
    """A module that ``plugins.load`` names may lie in the current directory, as an app may."""
    commands.write(tmp_path, GREETER)
    script = "import sys; sys.path.remove(''); from queuekit.cli import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", script, "hello", "Ada"],
        cwd=tmp_path,
        env=commands.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.returncode) == ("hello Ada\n", 0), done.stderr


def test_plugin_cannot_replace_a_command(tmp_path: Path) -> None:
    """A plugin that offers a name of core's is not asked."""
    commands.write(tmp_path, GREETER)

    done = commands.queuekit("worker", "--help", folder=tmp_path, PYTHONPATH=python_path(tmp_path))

    assert "Run tasks of APP until told to stop." in done.stdout


@pytest.mark.parametrize(
    ("command", "error"),
    [
        pytest.param('"hello_plugin:nosuch"', "AttributeError: module 'hello_plugin' has no attribute", id="name"),
        pytest.param('"nosuchmodule:hello"', "ModuleNotFoundError: No module named 'nosuchmodule'", id="module"),
        pytest.param("lambda: 1", "it is int, not a click command", id="kind"),
    ],
)
def test_command_that_cannot_be_had_is_an_error(tmp_path: Path, command: str, error: str) -> None:
    """A command of a plugin that cannot be imported or made ends with one error, and without traceback."""
    broken = PLUGIN.replace("command=bye", f"command={command}")
    commands.write(tmp_path, {**GREETER, "hello_plugin.py": broken})

    done = commands.queuekit("bye", folder=tmp_path, PYTHONPATH=python_path(tmp_path))

    assert done.stderr.startswith(f"Error QK502: the command 'bye' of a plugin cannot be used: {error}")
    assert (len(done.stderr.splitlines()), done.returncode) == (2, 5)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        pytest.param(
            'factory="x:Y", options="nosuchmodule:Options"',
            "the options of hello_plugin cannot be imported: ModuleNotFoundError",
            id="options",
        ),
        pytest.param(
            'factory="json:Brokr"',
            "the plugin for odd:// (hello_plugin) failed: AttributeError: module 'json' has no attribute 'Brokr'",
            id="factory",
        ),
    ],
)
def test_plugin_that_names_what_is_missing_is_an_error(tmp_path: Path, fields: str, error: str) -> None:
    """A look at its scheme ends with one error, and without traceback."""
    spec = f'BrokerSpec(schemes=("odd",), {fields}, summary="s")'
    hook = f"@hookimpl\ndef queuekit_brokers():\n    return [{spec}]\n"
    source = f"from queuekit.hookspecs import BrokerSpec, hookimpl\n\nqueuekit_api = (1, 0)\n\n\n{hook}"
    commands.write(tmp_path, {**GREETER, "hello_plugin.py": source})

    done = commands.queuekit("plugins", "check", "odd://host", folder=tmp_path, PYTHONPATH=python_path(tmp_path))

    assert error in done.stderr
    assert (len(done.stderr.splitlines()) <= 6, done.returncode) == (True, 5)


def test_check_knows_the_plugins_of_an_app_that_is_named(tmp_path: Path) -> None:
    """An app may load plugins of its own; a factory that is a function is shown by its name, not by its address."""
    source = (
        "from queuekit import Queuekit\nfrom queuekit.hookspecs import BrokerSpec, hookimpl\n\n"
        'queuekit_api = (1, 1)\n\n\ndef make(url, **_):\n    """Nothing."""\n\n\n'
        '@hookimpl\ndef queuekit_brokers():\n    return [BrokerSpec(schemes=("odd",), factory=make)]\n\n\n'
        'app = Queuekit(broker="memory://", plugins={"load": ["jobs"]})\n'
    )
    commands.write(tmp_path, {"jobs.py": source})

    done = commands.queuekit("--app", "jobs:app", "plugins", "check", "odd://host", folder=tmp_path)

    assert "made by  jobs:make" in done.stdout
    assert done.returncode == 0


def test_unknown_command_may_have_meant_one_of_a_plugin(tmp_path: Path) -> None:
    """Commands of plugins are among the suggestions."""
    commands.write(tmp_path, GREETER)

    done = commands.queuekit("hullo", folder=tmp_path, PYTHONPATH=python_path(tmp_path))

    assert "Did you mean 'hello'?" in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize(("command", "extra"), EXTRAS.items(), ids=list(EXTRAS))
def test_command_of_an_extra_says_what_to_install(command: str, extra: str, tmp_path: Path) -> None:
    """Where the plugin that adds it is not installed."""
    done = commands.queuekit(command, folder=tmp_path, QUEUEKIT_DISABLE_PLUGINS="*")

    assert f"No such command '{command}'. Install it:  pip install 'queuekit[{extra}]'" in done.stderr
    assert done.returncode == 2


def test_reload_says_what_to_install(tmp_path: Path) -> None:
    """The option is one of the worker; what does it is a plugin."""
    done = commands.queuekit("worker", "--reload", folder=tmp_path, QUEUEKIT_DISABLE_PLUGINS="*")

    assert "--reload needs queuekit-dev" in done.stderr
    assert "pip install 'queuekit[dev]'" in done.stderr
    assert done.returncode == 5


@pytest.mark.parametrize("typed", ["cron", "cronz", "schedle"])
def test_unknown_command_may_have_meant_a_further_name(typed: str, tmp_path: Path) -> None:
    """What is near to a name that the list leaves out leads to the name that is in the list."""
    done = commands.queuekit(typed, folder=tmp_path)

    assert re.search(r"Did you mean .*'schedules'", done.stderr)
    assert "'crons'" not in done.stderr


def test_exit_codes_are_those_of_the_reference() -> None:
    """``--help`` names each exit code that the reference promises, and no other."""
    page = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
    promised = re.findall(r"^\| (\d+) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    (told,) = re.findall(r"Exit codes: ([^.]*)\.", " ".join((main.help or "").split()))

    assert re.findall(r"\d+", told) == promised


def test_no_summary_is_cut() -> None:
    """Each command's line in the help of its group is a whole sentence."""
    groups = [main, *(command for _, command in all_commands() if isinstance(command, click.Group))]
    lines = [line for group in groups for line in group.get_help(click.Context(group, info_name="x")).splitlines()]

    assert [line for line in lines if line.endswith("...") and not line.startswith("Usage:")] == []


def test_unknown_command_is_told_despite_a_bad_config(tmp_path: Path) -> None:
    """A config that cannot be used does not hide that the command is misspelt."""
    commands.write(tmp_path, {"queuekit.toml": "brokr = 1\n"})

    done = commands.queuekit("wroker", folder=tmp_path)

    assert "Did you mean 'worker' or 'workers'?" in done.stderr
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
    added = json.loads(document.stdout)["commands"]
    assert [name for name in added if name in {"hello", "bye"}] == ["hello", "bye"]


def test_plugin_that_prints_does_not_spoil_the_document(tmp_path: Path) -> None:
    """What it says as it is imported goes to the standard error."""
    PluginSite(tmp_path).install("queuekit-chatty", "queuekit_api = (1, 0)\nprint('hello from a plugin')\n")

    done = commands.queuekit("plugins", "--json", folder=tmp_path, PYTHONPATH=python_path(tmp_path))

    assert "chatty" in {plugin["name"] for plugin in json.loads(done.stdout)["plugins"]}
    assert "hello from a plugin" in done.stderr


def test_broken_plugin_is_told_of_in_one_line(tmp_path: Path) -> None:
    """A plugin that fails to load costs one line of warning; the list of plugins tells it in the list alone."""
    PluginSite(tmp_path).install("queuekit-broken", "raise RuntimeError('the fuse is blown')\n")

    done = commands.queuekit("plugins", "check", "memory://", folder=tmp_path, PYTHONPATH=python_path(tmp_path))
    listed = commands.queuekit("plugins", folder=tmp_path, PYTHONPATH=python_path(tmp_path))

    (line,) = done.stderr.splitlines()
    assert line.startswith("Warning: the plugin 'broken' (queuekit-broken 1.2) failed to load")
    assert listed.stdout.count("broken: RuntimeError: the fuse is blown") == 1
    assert (listed.stderr, listed.returncode) == ("", 0)


def test_broken_plugin_fails_the_check(tmp_path: Path) -> None:
    """``queuekit check`` counts a plugin that fails to load among the trouble."""
    PluginSite(tmp_path).install("queuekit-broken", "raise RuntimeError('the fuse is blown')\n")
    commands.write(tmp_path, {"tasks.py": "from queuekit import Queuekit\napp = Queuekit()\n"})

    done = commands.queuekit("check", folder=tmp_path, PYTHONPATH=python_path(tmp_path))

    assert re.search(r"^FAIL  plugin .*broken.*the fuse is blown$", done.stdout, re.MULTILINE)
    assert done.returncode == 1


def test_print_into_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    """A command of a plugin that prints as Python does, into a pipe that nobody reads, ends without a complaint."""
    commands.write(tmp_path, GREETER)
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [*commands.MAIN, "bye"],
        cwd=tmp_path,
        env=commands.environment(PYTHONPATH=python_path(tmp_path)),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)

    assert (done.stderr, done.returncode) == ("", 1)


def test_warnings_of_others_are_left_as_they_are(tmp_path: Path) -> None:
    """A warning of the user's own code shows its file and line."""
    app = "import warnings\nfrom queuekit import Queuekit\napp = Queuekit()\nwarnings.warn('mind the gap')\n"
    commands.write(tmp_path, {"tasks.py": app})

    done = commands.queuekit("queues", folder=tmp_path)

    assert "tasks.py:4: UserWarning: mind the gap" in done.stderr


def test_program_can_be_called_from_python() -> None:
    """As any click command, it can be embedded: then it raises instead of leaving."""
    with pytest.raises(click.NoSuchCommand):
        main.main(["wroker"], standalone_mode=False)


def python_path(folder: Path) -> str:
    """Return a path on which the plugin in *folder* can be imported, beside core."""
    return f"{folder}:{commands.environment()['PYTHONPATH']}"
