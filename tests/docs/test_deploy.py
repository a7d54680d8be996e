"""The files of the page on deploying are valid, and agree with what queuekit does."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from queuekit import Queuekit
from queuekit.cli.program import COMMANDS
from queuekit.cli.worker import command as worker
from queuekit.durations import parse
from queuekit.worker.ask_health import PROBES, VARIABLE, parse_address

FOLDER = Path(__file__).parents[2] / "docs" / "howto" / "deploy"
PAGE = (FOLDER.parent / "deploy.md").read_text(encoding="utf-8")
UNIT = (FOLDER / "queuekit-worker.service").read_text(encoding="utf-8")
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
WORKER, EXPORTER = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8"))
KEDA: dict[str, Any] = yaml.safe_load((FOLDER / "keda.yaml").read_text(encoding="utf-8"))
(CONTAINER,) = WORKER["spec"]["template"]["spec"]["containers"]


def in_unit(name: str) -> str:
    """Return a value of the systemd unit."""
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return str(value)


def last_of_dockerfile(word: str) -> list[str]:
    """Return the list after the last *word* in the Dockerfile."""
    found: list[str] = json.loads(re.findall(rf"{word} (\[.*\])", DOCKERFILE)[-1])
    return found


COMMANDS_SHOWN = [
    pytest.param(shlex.split(in_unit("ExecStart")), float(in_unit("TimeoutStopSec")), id="systemd"),
    pytest.param(last_of_dockerfile("CMD"), parse(COMPOSE["services"]["worker"]["stop_grace_period"]), id="docker"),
    pytest.param(
        CONTAINER["args"],
        WORKER["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
        id="kubernetes",
    ),
]


@pytest.mark.parametrize(("line", "patience"), COMMANDS_SHOWN)
def test_workers_start_and_have_time_to_stop(line: list[str], patience: float) -> None:
    """The options are those of the command, and what stops it waits for longer than it drains."""
    program, name, *rest = line

    context = worker.make_context("worker", [*rest], resilient_parsing=False)

    assert (Path(program).name, name) == ("queuekit", "worker")
    assert context.params["target"] == "shop.tasks:app"
    assert patience >= context.obj.overrides["worker.drain"] + 10


def test_every_file_is_on_the_page() -> None:
    """None is shown twice, and none is forgotten."""
    shown = re.findall(r"literalinclude:: deploy/(\S+)", PAGE)

    assert sorted(shown) == sorted(path.name for path in FOLDER.iterdir())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """As systemd reads it, on a machine that has its program."""
    unit = tmp_path / "queuekit-worker.service"
    unit.write_text(UNIT.replace("/srv/shop/venv/bin/queuekit", sys.executable))

    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)

    assert unit.name not in done.stderr + done.stdout


def test_the_image_asks_the_port_that_it_sets() -> None:
    """The health check needs no option, because it reads the worker's variable."""
    (address,) = re.findall(rf"{VARIABLE}=(\S+)", DOCKERFILE)

    assert parse_address(address) == ("0.0.0.0", 8081)  # noqa: S104 - only parsed
    assert last_of_dockerfile("HEALTHCHECK .*CMD") == ["queuekit", "health"]
    assert "health" in COMMANDS
    assert {line.split()[0] for line in DOCKERFILE.splitlines() if re.match(r"[A-Z]", line)} <= {
        *("FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "HEALTHCHECK", "CMD")
    }


def test_kubernetes_probes_what_the_worker_answers() -> None:
    """Each probe has its path, at the port that the worker listens on for all addresses."""
    environ = {entry["name"]: entry.get("value", "") for entry in CONTAINER["env"]}
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    probes = {name: CONTAINER[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}

    assert [probe["path"] for probe in probes.values()] == [PROBES[name] for name in ("startup", "live", "ready")]
    assert {probe["port"] for probe in probes.values()} == {"health"}
    assert parse_address(environ[VARIABLE]) == ("0.0.0.0", ports["health"])  # noqa: S104
    assert environ["QUEUEKIT_PROMETHEUS__PORT"] == str(ports["metrics"])


def test_settings_in_the_files_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable sets what it says."""
    pytest.importorskip("queuekit_prometheus", reason="pip install -e plugins/queuekit-prometheus")
    for entry in CONTAINER["env"]:
        monkeypatch.setenv(entry["name"], entry.get("value", "redis://host/0"))
    monkeypatch.setenv("QUEUEKIT_LOG__FORMAT", "json")

    config = Queuekit().config

    assert (config.worker.health_port, config.log.format) == ("0.0.0.0:8081", "json")
    assert config.sections["prometheus"]["host"] == "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize("version", ["1.28", ""], ids=["oldest", "newest"])
@pytest.mark.parametrize("document", [WORKER, EXPORTER], ids=["worker", "exporter"])
def test_kubernetes_accepts_the_objects(document: dict[str, Any], version: str) -> None:
    """By the schemas of Kubernetes, of versions that ``kubernetes-validate`` has; unknown fields are errors."""
    schemas = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")

    schemas.validate(document, version or schemas.latest_version(), strict=True)


def test_keda_accepts_its_object() -> None:
    """By the definition of ``ScaledObject``: names of fields, whole counts, and metadata of text alone."""
    spec, (trigger,) = KEDA["spec"], KEDA["spec"]["triggers"]
    counts = {"minReplicaCount", "maxReplicaCount", "cooldownPeriod", "pollingInterval"}

    assert (KEDA["apiVersion"], KEDA["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    assert spec.keys() <= {"scaleTargetRef", "triggers", *counts}
    assert all(isinstance(spec[name], int) for name in spec.keys() & counts)
    assert trigger.keys() == {"type", "metadata"}
    assert {"serverAddress", "query", "threshold"} <= trigger["metadata"].keys()
    assert all(isinstance(value, str) for value in trigger["metadata"].values())


def test_kubernetes_objects_fit_together() -> None:
    """Selectors select their own pods, and KEDA scales the worker by a metric that the exporter has."""
    for each in (WORKER, EXPORTER):
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert each["spec"]["selector"]["matchLabels"] == labels == each["metadata"]["labels"]
    query = KEDA["spec"]["triggers"][0]["metadata"]["query"]
    (metric,) = re.findall(r"queuekit_\w+", query)

    assert KEDA["spec"]["scaleTargetRef"]["name"] == WORKER["metadata"]["name"]
    assert f"| `{metric}` |" in (FOLDER.parent / "monitor.md").read_text(encoding="utf-8")


def test_troubleshooting_names_commands_that_exist() -> None:
    """Each ``queuekit ...`` on that page is a command."""
    page = (FOLDER.parent / "troubleshoot.md").read_text(encoding="utf-8")

    named = set(re.findall(r"`queuekit ([a-z]+)", page))

    assert named <= {*COMMANDS}
    assert len(named) > 10
