"""A plugin that is broken harms nobody but those who ask for it: each way, with real wheels in a real environment.

What the user sees is on the page docs/isolation.md, word for word; QUEUEKIT_TEST_GOLDEN=write writes it anew.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from support.command_server import WITHOUT_PLUGINS
from support.commands import PROGRAM, CommandServer
from support.plugin_site import HEADER, serving
from support.venvs import ROOT, Venv, bare, wheel_of
from support.wheels import write_wheel

PAGE = ROOT / "docs" / "isolation.md"
MOST_LINES = 6
Queuekit = Callable[..., "subprocess.CompletedProcess[str]"]
PREFER = '[plugins.prefer]\nrival = "rival-two"\n'
DISABLE = '[plugins]\ndisable = ["acme-leaving-traces"]\n'
LEAVES_TRACES = f"""
from pathlib import Path
Path("traces").write_text("was imported")
{serving("traces")}
"""

DISTS: Mapping[str, tuple[str, str]] = {
    "acme-good": ("good", serving("good")),
    "acme-raising": ("raising", "import nosuchclient\n"),
    "acme-leaving": ("leaving", "raise SystemExit(3)\n"),
    "acme-signature": ("signature", f"{HEADER}\n@hookimpl\ndef queuekit_brokers(sun): ...\n"),
    "acme-misspelt": ("misspelt", f"{HEADER}\n@hookimpl\ndef queuekit_brokrs(): ...\n"),
    "acme-async": ("async", f"{HEADER}\n@hookimpl\nasync def queuekit_brokers(): ...\n"),
    "acme-future": ("future", serving("future").replace("(1, 0)", "(2, 0)")),
    "twin-one": ("twin", serving("one")),
    "twin-two": ("twin", serving("two")),
    "rival-one": ("rival-one", serving("rival")),
    "rival-two": ("rival-two", serving("rival")),
    "acme-gone": ("gone", ""),
    "acme-leaving-traces": ("traces", LEAVES_TRACES),
}
"""Distribution -> name of its entry point, and its module."""


class Row(NamedTuple):
    """A way in which a plugin can be broken, or a rule, and what one who uses it types."""

    title: str
    command: str
    code: int
    config: str = ""
    settings: Mapping[str, str] = MappingProxyType({})


ROWS = [
    Row("A plugin that raises on import", "plugins check raising://host", 5),
    Row("A plugin that exits on import", "plugins check leaving://host", 5),
    Row("A hook with a wrong signature", "plugins check signature://host", 5),
    Row("A misspelt hook", "plugins check misspelt://host", 5),
    Row("An async hook", "plugins check async://host", 5),
    Row("A plugin for another API version", "plugins check future://host", 5),
    Row("The entry point of an editable install whose folder is gone", "plugins check gone://host", 5),
    Row("Two owners of a scheme", "plugins check rival://host", 5),
    Row("A plugin disabled by the environment", "plugins check traces://host", 5, "", {"DISABLE_PLUGINS": "traces"}),
    Row("A plugin disabled by the config", "plugins check traces://host", 5, DISABLE),
    Row("A plugin that the environment does not list", "plugins check traces://host", 5, "", {"PLUGINS": "good"}),
    Row("Strict mode", "plugins check memory://", 5, "", {"STRICT_PLUGINS": "1", "PLUGINS": "raising"}),
]


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Venv]:
    """Return an environment with core and all of these plugins, installed by pip from their wheels."""
    folder = tmp_path_factory.mktemp("isolation")
    made, wheels, source = Venv(folder / "venv"), folder / "wheels", folder / "source"
    wheels.mkdir()
    source.mkdir()
    written = []
    for dist, (name, text) in DISTS.items():
        module = f"{dist.replace('-', '_')}_plugin"
        # An editable install puts but a path among the packages.
        files = {"acme_gone.pth": str(source)} if dist == "acme-gone" else {f"{module}.py": text}
        written.append(write_wheel(wheels, dist, files, points={name: module}))
    made.install(wheel_of(ROOT), *written)
    source.rmdir()
    yield made
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def queuekit(venv: Venv) -> Iterator[Queuekit]:
    """Return what runs ``queuekit`` there, as a fork of a process that has imported core alone."""
    shell = {**bare(), "NO_COLOR": "1", "COLUMNS": "100"}
    server = CommandServer(venv.python, shell, WITHOUT_PLUGINS)

    def run(*args: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
        return server.run(PROGRAM, args, folder, "", {**shell, **settings})

    yield run
    server.close()


def environ_of(row: Row) -> dict[str, str]:
    """Return the variables under which a row is tried: by default only the plugins that it is about may load."""
    given = {f"QUEUEKIT_{name}": value for name, value in row.settings.items()}
    if "disabled" in row.title:
        return given
    words = row.command.split()[-1].partition("://")[0]
    return {"QUEUEKIT_PLUGINS": "rival-one,rival-two" if words == "rival" else words, **given}


def sections() -> dict[str, str]:
    """Return the text block of each heading of the page."""
    found = re.findall(
        r"^## ([^\n]+)\n\n```text\n(.*?)```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return dict(found)


def put(title: str, block: str) -> None:
    """Write a text block into the page, for who has looked at the difference."""
    text = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(rf"(^## {re.escape(title)}\n\n```text\n).*?(```$)", re.MULTILINE | re.DOTALL)
    changed, count = pattern.subn(lambda match: match[1] + block + match[2], text)
    PAGE.write_text(changed if count else f"{text}\n## {title}\n\n```text\n{block}```\n", encoding="utf-8")


def shown(row: Row) -> str:
    """Return the command as a person types it, with what it needs before it."""
    prefix = [f"QUEUEKIT_{name}={shlex.quote(value)}" for name, value in row.settings.items()]
    return " ".join([*prefix, "queuekit", row.command])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_tells_what_is_wrong_to_who_asks(queuekit: Queuekit, tmp_path: Path, row: Row) -> None:
    """Who uses a broken or forbidden plugin gets at most six lines with its name, the reason and what to do."""
    (tmp_path / "queuekit.toml").write_text(row.config, encoding="utf-8")

    done = queuekit(*row.command.split(), folder=tmp_path, **environ_of(row))

    lines = [line for line in done.stderr.splitlines() if not line.startswith("Warning: ")]
    block = "\n".join([f"$ {shown(row)}", *lines, ""])
    if os.environ.get("QUEUEKIT_TEST_GOLDEN") == "write":
        put(row.title, block)
    assert done.returncode == row.code, done.stderr
    assert 1 <= len(lines) <= MOST_LINES
    assert "Traceback" not in done.stderr
    assert sections()[row.title] == block


def test_leaves_the_others_alone(venv: Venv, queuekit: Queuekit, tmp_path: Path) -> None:
    """With all of them installed at once, those that are right work: each broken one costs a line of warning."""
    done = queuekit("plugins", "check", "good://host", folder=tmp_path)
    plain = venv.run("-c", "import queuekit; print(queuekit.__name__)", folder=tmp_path)

    warned = [line for line in done.stderr.splitlines() if line.startswith("Warning: the plugin ")]
    assert done.stdout.startswith("broker   acme-good 1.2")
    assert len(warned) == len(done.stderr.splitlines()) == 7
    assert (plain.stdout, plain.stderr) == ("queuekit\n", "")


def test_loads_two_distributions_with_one_name(queuekit: Queuekit, tmp_path: Path) -> None:
    """Neither of two entry points with one name is lost; the second is listed with its distribution."""
    schemes = ("one", "two")
    found = [queuekit("plugins", "check", f"{scheme}://", folder=tmp_path).stdout for scheme in schemes]
    listed = queuekit("plugins", folder=tmp_path, QUEUEKIT_PLUGINS="twin").stdout

    assert [text.split(":")[0].split()[1] for text in found] == ["twin-one", "twin-two"]
    assert "twin@twin-two" in listed


def test_lets_the_config_settle_who_owns_a_scheme(queuekit: Queuekit, tmp_path: Path) -> None:
    """The line that the error shows makes one of two owners the one."""
    (tmp_path / "queuekit.toml").write_text(PREFER, encoding="utf-8")

    done = queuekit("plugins", "check", "rival://host", folder=tmp_path, QUEUEKIT_PLUGINS="rival-one,rival-two")

    assert done.stdout.startswith("broker   rival-two 1.2")


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        pytest.param("", {"QUEUEKIT_DISABLE_PLUGINS": "traces"}, id="environment"),
        pytest.param("", {"QUEUEKIT_PLUGINS": "good"}, id="allow-list"),
        pytest.param(DISABLE, {}, id="config"),
    ],
)
def test_imports_nothing_that_is_forbidden(
    queuekit: Queuekit, tmp_path: Path, config: str, settings: dict[str, str]
) -> None:
    """What importing a plugin does, it does not do where a rule leaves the plugin out; elsewhere it does."""
    (tmp_path / "queuekit.toml").write_text(config, encoding="utf-8")

    queuekit("plugins", "check", "memory://", folder=tmp_path, **settings)
    forbidden = (tmp_path / "traces").exists()
    (tmp_path / "queuekit.toml").unlink()
    queuekit("plugins", "check", "memory://", folder=tmp_path)

    assert (forbidden, (tmp_path / "traces").exists()) == (False, True)
