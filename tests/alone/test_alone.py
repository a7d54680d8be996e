"""What is installed in the environments that have wheels only: core, the test kit and at most one plugin."""

import importlib.util
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ALONE = os.environ.get("QUEUEKIT_TEST_ALONE", "")
"""The plugin that is installed here, or ``core`` for none."""
CLIENTS = {
    "redis": ("redis",),
    "sqs": ("botocore",),
    "mongo": ("pymongo", "bson"),
    "amqp": ("pika",),
    "memcached": (),
    "prometheus": ("prometheus_client",),
    "dashboard": ("starlette", "uvicorn"),
    "otel": ("opentelemetry",),
    "dev": ("watchfiles",),
}

pytestmark = pytest.mark.skipif(not ALONE, reason="run by the tox environments core and wheels-*")


@pytest.mark.parametrize("name", ["queuekit", "queuekit_testing", *(f"queuekit_{name}" for name in CLIENTS)])
def test_comes_from_a_wheel(name: str) -> None:
    """Core, the test kit and the one plugin are installed, and not editable; the other plugins are not there."""
    spec = importlib.util.find_spec(name)

    if name in {"queuekit", "queuekit_testing", f"queuekit_{ALONE}"}:
        assert spec is not None
        assert "site-packages" in Path(str(spec.origin)).parts
        assert '"editable": true' not in (metadata.distribution(name).read_text("direct_url.json") or "")
    else:
        assert spec is None


@pytest.mark.parametrize("client", [client for name, clients in CLIENTS.items() if name != ALONE for client in clients])
def test_has_no_other_client(client: str) -> None:
    """The client libraries of other plugins cannot be imported, so nothing here leans on them."""
    spec = importlib.util.find_spec(client)

    assert spec is None or spec.origin is None  # a folder of tests of that name is no library


def test_lists_what_is_installed(tmp_path: Path) -> None:
    """``queuekit plugins`` lists core and the one plugin, both well."""
    command = [sys.executable, "-m", "queuekit.cli", "plugins", "--json"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    found = {plugin["name"]: plugin["status"] for plugin in json.loads(done.stdout)["plugins"]}
    assert found == {name: "ok" for name in ("builtin", ALONE) if name != "core"}
