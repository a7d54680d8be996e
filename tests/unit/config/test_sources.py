"""Where settings come from: command line, environment, arguments, one file; in this order, with origins."""

import sys
from pathlib import Path
from typing import Any

import pytest

from queuekit.errors import ConfigError
from support.settings import Load, loader, problems


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that loads the settings of a folder."""
    return loader(tmp_path)


def test_ranks_the_sources(load: Load) -> None:
    """The command line overrules the environment, that the arguments, those the file, and that the defaults."""
    config = load(
        toml="[worker]\nconcurrency = 1\nprocesses = 1\nprefetch = 1\nlease = 11",
        arguments={"worker": {"concurrency": 2, "processes": 2, "prefetch": 2}},
        environ={"QUEUEKIT_WORKER__CONCURRENCY": "3", "QUEUEKIT_WORKER__PROCESSES": "3"},
        overrides={"worker.concurrency": 4, "worker.drain": None},
    )

    worker = config.worker
    assert (worker.concurrency, worker.processes, worker.prefetch, worker.lease) == (4, 3, 2, 11.0)
    assert [config.origin(f"worker.{name}") for name in ("concurrency", "processes", "prefetch", "lease", "drain")] == [
        "command line",
        "QUEUEKIT_WORKER__PROCESSES",
        "Queuekit(...)",
        "queuekit.toml",
        "default",
    ]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        pytest.param({"BROKER": "redis://h"}, {"broker": "redis://h"}, id="text"),
        pytest.param({"APP": "shop:app"}, {"app": "shop:app"}, id="app"),
        pytest.param({"INCLUDE": "a, b,"}, {"include": ("a", "b")}, id="commas"),
        pytest.param({"INCLUDE": '["a", "b"]'}, {"include": ("a", "b")}, id="json"),
        pytest.param({"INCLUDE": ""}, {"include": ()}, id="empty-list"),
        pytest.param({"RESULTS_EXPIRE": "2m"}, {"results_expire": 120.0}, id="duration"),
        pytest.param({"REDIS__MAX_CONNECTIONS": "9"}, {"sections": {"redis": {"max_connections": "9"}}}, id="plugin"),
        pytest.param({"REDIS__CA_FILE": "x"}, {"sections": {"redis": {"ca_file": "x"}}}, id="option-named-file"),
    ],
)
def test_reads_the_environment(load: Load, variables: dict[str, str], expected: dict[str, Any]) -> None:
    """Variables hold text, lists by commas or as JSON, and with two underscores the keys of tables."""
    config = load(environ={f"QUEUEKIT_{name}": text for name, text in variables.items()})

    assert {name: getattr(config, name) for name in expected} == expected


def test_gathers_deep_variables(load: Load) -> None:
    """The items of a setting that is a table may have a variable each."""
    config = load(
        environ={
            "QUEUEKIT_PLUGINS__PREFER__REDIS": "acme",
            "QUEUEKIT_PLUGINS__PREFER__SQS": "other",
            "QUEUEKIT_WORKER__QUEUES__HIGH": "8",
        }
    )

    assert config.plugins.prefer == {"redis": "acme", "sqs": "other"}
    assert config.worker.queues == {"high": 8}


@pytest.mark.parametrize(
    "name",
    [
        "DEBUG",
        "PLUGINS",
        "DISABLE_PLUGINS",
        "STRICT_PLUGINS",
        "REQUIRE_ENGINES",
        "TEST_REDIS_URL",
        "SERVICE_HOST",
        "PORT",
        "PORT_6379_TCP_ADDR",
    ],
)
def test_leaves_other_variables_alone(load: Load, name: str) -> None:
    """Switches, those of tests, and those that Kubernetes sets for a service named queuekit are no settings."""
    config = load(environ={f"QUEUEKIT_{name}": "x", "BROKER": "y"})

    assert not config.settings


def test_reads_mounted_secrets(load: Load, tmp_path: Path) -> None:
    """A variable that ends in _FILE names a file with the value: for settings of core, and for secrets of plugins."""
    (tmp_path / "broker").write_text("redis://u:hunter2@h\n")
    (tmp_path / "password").write_text("\N{ZERO WIDTH NO-BREAK SPACE}s3cret\n")  # as some editors begin a file

    config = load(
        environ={
            "QUEUEKIT_BROKER_FILE": str(tmp_path / "broker"),
            "QUEUEKIT_REDIS__PASSWORD_FILE": str(tmp_path / "password"),
        }
    )

    assert (config.broker, config.origin("broker")) == ("redis://u:hunter2@h", "QUEUEKIT_BROKER_FILE")
    assert config.sections == {"redis": {"password": "s3cret"}}


def test_refuses_bad_variables(load: Load, tmp_path: Path) -> None:
    """Misspelt variables, missing files and a value given twice are problems that name the variable."""
    missing = str(tmp_path / "missing")

    with pytest.raises(ConfigError) as caught:
        load(
            environ={
                "QUEUEKIT_BROKR": "redis://h",
                "QUEUEKIT_WORKER_CONCURRENCY": "5",
                "QUEUEKIT_APP_FILE": missing,
                "QUEUEKIT_BACKEND": "none",
                "QUEUEKIT_BACKEND_FILE": missing,
                "QUEUEKIT_WORKER": "{}",
            }
        )

    assert problems(caught.value) == [
        ("QUEUEKIT_APP_FILE", f'cannot read "{missing}": No such file or directory'),
        ("QUEUEKIT_BACKEND_FILE", "QUEUEKIT_BACKEND is set too; set only one of them"),
        ("QUEUEKIT_BROKR", "unknown variable, did you mean 'QUEUEKIT_BROKER'?"),
        ("QUEUEKIT_WORKER", "worker is a table: set e.g. QUEUEKIT_WORKER__QUEUES"),
        ("QUEUEKIT_WORKER_CONCURRENCY", "unknown variable, did you mean 'QUEUEKIT_WORKER__CONCURRENCY'?"),
    ]


FILES = {
    "queuekit.toml": 'app = "toml"',
    "queuekit.yaml": "app: yaml",
    "pyproject.toml": '[tool.queuekit]\napp = "pyproject"',
}


@pytest.mark.parametrize(
    ("present", "app", "origin"),
    [
        pytest.param(["queuekit.toml", "queuekit.yaml", "pyproject.toml"], "toml", "queuekit.toml", id="toml-first"),
        pytest.param(["queuekit.yaml", "pyproject.toml"], "yaml", "queuekit.yaml", id="then-yaml"),
        pytest.param(["pyproject.toml"], "pyproject", "pyproject.toml", id="then-pyproject"),
        pytest.param([], None, "default", id="none"),
    ],
)
def test_finds_a_file(load: Load, tmp_path: Path, present: list[str], app: str | None, origin: str) -> None:
    """The first file of a fixed order is read, alone."""
    if "queuekit.yaml" in present[:1]:
        pytest.importorskip("yaml", reason="needs the extra yaml")
    for name in present:
        (tmp_path / name).write_text(FILES[name])

    config = load()

    assert (config.app, config.origin("app")) == (app, origin)


def test_passes_over_a_foreign_pyproject(load: Load, tmp_path: Path) -> None:
    """A pyproject.toml that does not speak of queuekit sets nothing."""
    (tmp_path / "pyproject.toml").write_text('tool = "none"')

    assert load().app is None


@pytest.mark.parametrize("by", ["path", "variable"])
def test_reads_the_file_that_is_named(load: Load, tmp_path: Path, by: str) -> None:
    """A file named by the command line or QUEUEKIT_CONFIG is read in place of those found."""
    (tmp_path / "other.toml").write_text('app = "other"')
    where: dict[str, Any] = {"path": "other.toml"} if by == "path" else {"environ": {"QUEUEKIT_CONFIG": "other.toml"}}

    config = load(toml='app = "found"', **where)

    assert (config.app, config.origin("app")) == ("other", "other.toml")


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        pytest.param("missing.toml", None, "cannot read missing.toml: No such file or directory", id="missing"),
        pytest.param("bad.toml", "app = ", "bad.toml is not TOML", id="toml"),
        pytest.param("bytes.toml", "\udcff", "bytes.toml is not TOML", id="bytes"),
        pytest.param("pyproject.toml", "[project]", r"pyproject.toml has no table \[tool.queuekit\]", id="no-table"),
        pytest.param("pyproject.toml", "[tool]\nqueuekit = 5", "pyproject.toml does not contain a table", id="scalar"),
    ],
)
def test_refuses_a_bad_file(load: Load, tmp_path: Path, name: str, text: str | None, error: str) -> None:
    """A file that was named but is missing, or is not what its name says, is an error."""
    if text is not None:
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(ConfigError, match=error):
        load(path=name)


def test_says_that_yaml_needs_an_extra(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyYAML a YAML file is answered with the command that brings it."""
    (tmp_path / "queuekit.yaml").write_text("app: yaml")
    monkeypatch.setitem(sys.modules, "yaml", None)

    with pytest.raises(ConfigError, match=r"queuekit\.yaml needs PyYAML") as caught:
        load()

    assert caught.value.fix == "Install it:  pip install 'queuekit[yaml]'"


@pytest.mark.parametrize(
    ("text", "error"),
    [("a: [", "is not YAML"), ("- a", "does not contain a table of settings"), ("true: 5", "unknown key")],
)
def test_refuses_bad_yaml(load: Load, tmp_path: Path, text: str, error: str) -> None:
    """YAML that is broken, no table, or has keys that are no text is an error."""
    pytest.importorskip("yaml", reason="needs the extra yaml")
    (tmp_path / "queuekit.yaml").write_text(text)

    with pytest.raises(ConfigError, match=error):
        load()


def test_reads_empty_yaml(load: Load, tmp_path: Path) -> None:
    """An empty YAML file sets nothing."""
    pytest.importorskip("yaml", reason="needs the extra yaml")
    (tmp_path / "queuekit.yaml").write_text("# nothing yet\n")

    assert not load().settings
