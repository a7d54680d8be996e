"""Each mistake of a user is answered in at most six lines with the fix, without a traceback, and with its exit code.

The whole answer is kept in tests/golden/; QUEUEKIT_TEST_GOLDEN=write writes it anew.
"""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from support import commands
from support.golden import compare

GOLDEN = Path(__file__).parents[2] / "golden"
MOST_LINES = 6
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
BARE = "from queuekit.plugins import loading; loading._scanned = (); from queuekit.cli import main; main()"
"""The command line as it is where no plugin is installed."""

TASKS = """\
from queuekit import Queuekit

app = Queuekit()


@app.task
def add(x: int, y: int = 1) -> int:
    return x + y


@app.task(ignore_result=True)
def ping() -> None: ...
"""
TWO_NAMES = f"{TASKS}\n\n@app.task(name='bad.add')\ndef other(): ...\n"
TWO_ADDS = f"{TASKS}\napp.task(print, name='other.add')\n"
TOML = 'app = "tasks:app"\nbroker = "sqlite:///queue.db"\n'
SHOP = {"tasks.py": TASKS, "queuekit.toml": TOML}
NO_FOLDER = "sqlite:////no-such-folder/queue.db"


class Mistake(NamedTuple):
    """What a user does wrong."""

    name: str
    args: tuple[str, ...]
    code: int
    files: Mapping[str, str] = MappingProxyType(SHOP)
    settings: Mapping[str, str] = MappingProxyType({})


BAD_APP = [
    Mistake("app-module-missing", ("worker", "shop:app"), 3),
    Mistake("app-module-misspelt", ("worker", "task:app"), 3),
    Mistake("app-module-missing-in-config", ("queues",), 3, {"queuekit.toml": 'app = "shop:app"'}),
    Mistake("app-module-missing-in-environment", ("worker",), 3, SHOP, {"QUEUEKIT_APP": "shop"}),
    Mistake("app-parent-missing", ("send", "-A", "shop.tasks:app", "add"), 3),
    Mistake("app-attribute-missing", ("worker", "tasks:ap"), 3),
    Mistake("app-attribute-is-something-else", ("worker", "tasks:add"), 3),
    Mistake("app-is-a-file", ("worker", "./tasks.py:app"), 3),
    Mistake("app-raises", ("worker", "bad"), 3, {"bad.py": "x = 1\nraise RuntimeError('the cat sleeps')\n"}),
    Mistake("app-imports-what-is-missing", ("worker", "bad"), 3, {"bad.py": "import no_such_thing\n"}),
    Mistake("app-exits", ("worker", "bad"), 3, {"bad.py": "raise SystemExit(4)\n"}),
    Mistake("app-is-no-python", ("worker", "bad"), 3, {"bad.py": "def f(:\n"}),
    Mistake("app-holds-none", ("worker", "bad"), 3, {"bad.py": "x = 1\n"}),
    Mistake("app-holds-several", ("worker", "bad"), 3, {"bad.py": f"{TASKS}\nother = Queuekit()\n"}),
    Mistake("app-parent-raises", ("worker", "bad.tasks"), 3, {"bad/__init__.py": "1 / 0\n", "bad/tasks.py": TASKS}),
    Mistake(
        "app-task-named-twice",
        ("worker", "bad"),
        3,
        {"bad.py": TWO_NAMES},
    ),
    Mistake("app-duration-illegal", ("scheduler", "bad"), 3, {"bad.py": f"{TASKS}\napp.task(timeout='xx')(add)\n"}),
    Mistake("no-app-for-worker", ("worker",), 3, {}),
    Mistake("no-app-for-send", ("send", "add", "1"), 3, {"tasks.py": "x = 1\n"}),
    Mistake("include-missing", ("worker",), 3, {**SHOP, "queuekit.toml": f'{TOML}include = ["more"]\n'}),
]
BAD_CONFIG = [
    Mistake("setting-misspelt", ("queues",), 3, {"queuekit.toml": 'brokr = "sqlite:///queue.db"'}),
    Mistake("setting-misspelt-in-environment", ("queues",), 3, SHOP, {"QUEUEKIT_BROKR": "sqlite:///queue.db"}),
    Mistake("setting-misspelt-on-command-line", ("config", "show", "--set", "worker.concurency=4"), 3),
    Mistake("setting-of-wrong-type", ("worker",), 3, SHOP, {"QUEUEKIT_WORKER__CONCURRENCY": "eight"}),
    Mistake("settings-many-wrong", ("worker",), 3, {"queuekit.toml": "\n".join(f"bad{n} = {n}" for n in range(9))}),
    Mistake("table-unknown", ("queues",), 3, {"queuekit.toml": "[wroker]\nconcurrency = 4\n"}),
    Mistake("table-of-missing-plugin", ("queues",), 3, {"queuekit.toml": "[redis]\nkey_prefix = 'x'\n"}),
    Mistake("config-is-no-toml", ("queues",), 3, {"queuekit.toml": "broker = \n"}),
    Mistake("config-missing", ("--config", "nope.toml", "queues"), 3),
    Mistake("broker-in-one-process", ("worker", "--broker", "memory://"), 3),
    Mistake("backend-in-one-process", ("send", "add", "1", "--backend", "memory://"), 3),
]
BAD_CALL = [
    Mistake("task-unknown", ("send", "ad", "1"), 1),
    Mistake("task-ambiguous", ("send", "add", "1"), 1, {**SHOP, "tasks.py": TWO_ADDS}),
    Mistake("argument-missing", ("send", "add"), 1),
    Mistake("argument-too-many", ("send", "add", "1", "2", "3"), 1),
    Mistake("argument-unknown", ("send", "add", "1", "z=3"), 1),
    Mistake("argument-of-wrong-type", ("send", "add", "x", "y"), 1),
    Mistake("argument-of-wrong-type-in-schedule", ("schedules", "add", "s", "1h", "add", "x"), 1),
    Mistake("argument-too-large", ("send", "add", "9" * 1001, "--set", "max_message_bytes=500"), 1),
    Mistake("id-illegal", ("send", "add", "1", "--id", "a b"), 1),
    Mistake("wait-without-backend", ("send", "add", "1", "--wait", "--backend", "none"), 1),
    Mistake("wait-for-ignored-result", ("send", "ping", "--wait"), 1),
    Mistake("wait-too-long", ("send", "add", "1", "--wait", "--timeout", "50ms"), 1),
    Mistake("show-unknown-id", ("show", "nobody"), 1),
    Mistake("cancel-unknown-id", ("cancel", "nobody"), 1),
    Mistake("dlq-show-unknown-id", ("dlq", "show", "nobody"), 1),
    Mistake("dlq-retry-unknown-id", ("dlq", "retry", "nobody"), 1),
    Mistake("init-twice", ("init",), 1),
    Mistake("plugin-name-illegal", ("plugin", "new", "My Plugin!"), 1),
    Mistake("plugin-new-twice", ("plugin", "new", "nats"), 1, {"queuekit-nats/pyproject.toml": ""}),
    Mistake("plugin-kind-unknown", ("plugin", "new", "nats", "--kind", "brokr"), 2),
    Mistake("plugins-check-option-unknown", ("plugins", "check", "sqlite:///jobs.db?snyc=full"), 3),
]
BAD_ENGINE = [
    Mistake("scheme-unknown", ("send", "add", "1", "--broker", "nosuch://:secret@host"), 5),
    Mistake("scheme-misspelt", ("worker", "--broker", "sqlit:///queue.db"), 5),
    Mistake("scheme-unknown-of-backend", ("queues", "--backend", "nosuch://"), 5),
    Mistake("plugin-missing", ("worker",), 5, SHOP, {"QUEUEKIT_BROKER": "redis://:secret@localhost/0"}),
    Mistake("broker-down-for-send", ("send", "add", "1", "--broker", NO_FOLDER), 4),
    Mistake("broker-down-for-worker", ("worker", "--broker", NO_FOLDER), 4),
    Mistake("broker-down-for-queues", ("queues", "--broker", NO_FOLDER), 4),
    Mistake("broker-is-no-database", ("send", "add", "1", "--broker", "sqlite:///tasks.py"), 4),
]
BAD_USAGE = [
    Mistake("command-unknown", ("wroker",), 2),
    Mistake("subcommand-unknown", ("dlq", "rety"), 2),
    Mistake("option-unknown", ("send", "add", "1", "--wiat"), 2),
    Mistake("option-without-value", ("worker", "--queues"), 2),
    Mistake("duration-illegal", ("send", "add", "1", "--delay", "soon"), 2),
    Mistake("queues-illegal", ("worker", "-q", "high:0"), 2),
    Mistake("queues-misspelt", ("worker", "-q", "mail:x"), 2),
    Mistake("set-without-value", ("--set", "broker", "queues"), 2),
    Mistake("timeout-without-wait", ("send", "add", "1", "--timeout", "3s"), 2),
    Mistake("dlq-retry-without-ids", ("dlq", "retry"), 2),
    Mistake("purge-without-yes", ("purge", "default"), 2),
]
ALL = [*BAD_APP, *BAD_CONFIG, *BAD_CALL, *BAD_ENGINE, *BAD_USAGE]


def run(mistake: Mistake, folder: Path) -> subprocess.CompletedProcess[str]:
    """Make the mistake in *folder*."""
    commands.write(folder, mistake.files)
    settings = {"QUEUEKIT_SEND_TIMEOUT": "100ms", **mistake.settings}
    return commands.python(BARE, *mistake.args, folder=folder, **settings)


def steady(text: str, folder: Path) -> str:
    """Return *text* without what differs from run to run."""
    return ID.sub("ID", text.replace(str(folder.resolve()), "/here").replace(str(folder), "/here"))


@pytest.mark.parametrize("mistake", ALL, ids=lambda mistake: mistake.name)
def test_answers_in_few_lines(mistake: Mistake, tmp_path: Path) -> None:
    """The answer is the golden one: short, with the fix and the exit code of its kind, on standard error alone."""
    done = run(mistake, tmp_path)

    compare(GOLDEN / f"{mistake.name}.txt", steady(done.stderr, tmp_path))
    assert done.returncode == mistake.code
    assert len(done.stderr.splitlines()) <= MOST_LINES
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert done.stdout == ""


def test_no_golden_file_is_left_over() -> None:
    """Each golden file belongs to a mistake."""
    names = {path.stem for path in GOLDEN.glob("*.txt")}

    assert names == {mistake.name for mistake in ALL} | {"argument-cannot-be-encoded"}


def test_names_what_cannot_be_encoded(tmp_path: Path) -> None:
    """A send from Python says which argument of which task, and where inside it, the serializer cannot write."""
    script = """
from queuekit import QueuekitError
from tasks import add
try:
    add.send({"people": [object()]})
except QueuekitError as error:
    print(error.code, *error.lines(), sep="\\n")
    raise SystemExit(error.exit_code)
"""
    commands.write(tmp_path, SHOP)

    done = commands.python(script, folder=tmp_path)

    compare(GOLDEN / f"{'argument-cannot-be-encoded'}.txt", done.stdout)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("args", "settings"),
    [
        pytest.param(("--full-traceback", "send", "ad"), {}, id="option-before-command"),
        pytest.param(("send", "ad", "--full-traceback"), {}, id="option-after-command"),
        pytest.param(("send", "ad"), {"QUEUEKIT_DEBUG": "1"}, id="variable"),
    ],
)
def test_shows_traceback_when_asked(args: tuple[str, ...], settings: dict[str, str], tmp_path: Path) -> None:
    """Who hunts a fault gets the traceback, and then the same answer."""
    commands.write(tmp_path, SHOP)

    done = commands.queuekit(*args, folder=tmp_path, **settings)

    assert done.stderr.startswith("Traceback (most recent call last):")
    assert "\nError QK201: no task named 'ad'.\n" in done.stderr
    assert done.returncode == 1


def test_failed_send_puts_nothing_on_the_queue(tmp_path: Path) -> None:
    """A send that is refused because its result could not be waited for has sent nothing."""
    commands.write(tmp_path, SHOP)

    refused = commands.queuekit("send", "ping", "--wait", folder=tmp_path)
    listed = commands.queuekit("queues", "--json", folder=tmp_path)

    assert refused.returncode == 1
    assert '"waiting": 0' in listed.stdout
