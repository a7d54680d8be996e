"""URLs and options: what is ours, what is pymongo's, what is nobody's; and what the plugin costs before it is used."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bson import Binary
from pymongo import common

from queuekit import Queuekit
from queuekit.backend import Record
from queuekit.broker import Ack, CommitItem
from queuekit.envelope import Envelope
from queuekit.errors import ConfigError
from queuekit.ids import new_id
from queuekit.urls import EngineURL
from queuekit_mongo.broker import MongoBroker
from queuekit_mongo.options import PASSTHROUGH
from queuekit_mongo.urls import client_url, database_name, engine_id
from queuekit_testing.kit import unique_name
from support.mongod import shared_set
from support.waiting import PATIENCE


def test_the_path_names_the_database() -> None:
    """Without a path it is ``queuekit``."""
    urls = ["mongodb://h", "mongodb://h/", "mongodb://h/jobs?w=2", "mongodb+srv://h/jobs"]

    names = [database_name(EngineURL.parse(url)) for url in urls]

    assert names == ["queuekit", "queuekit", "jobs", "jobs"]


@pytest.mark.parametrize(
    "url", ["mongodb:///jobs", "mongodb://h/a.b", "mongodb://h/a%20b", "mongodb://h/jobs?w=0", "mongodb://h/jobs?w=00"]
)
def test_an_unusable_url_is_refused(url: str) -> None:
    """No host, a database that cannot be, or writes that nobody confirms: refused before anything is opened."""
    with pytest.raises(ConfigError):
        database_name(EngineURL.parse(url))


def test_the_client_gets_its_own_options_only() -> None:
    """Our options are taken out of the URL, pymongo's stay, also in lower case; user and password are untouched."""
    url = EngineURL.parse("mongodb://u:p%40w@h1,h2:1/jobs?prefix=x&replicaSet=rs0&tls=true&readpreference=nearest")

    left = client_url(url)

    assert left == "mongodb://u:p%40w@h1,h2:1/jobs?replicaSet=rs0&tls=true&readpreference=nearest"


NOT_OF_URLS = {"connect", "datetime_conversion", "driver", "fsync", "server_api", "tz_aware", "waitqueuemultiple"}
NOT_OF_URLS |= {"unicode_decode_error_handler"}
"""What pymongo would read from a URL as well, and says nothing of, or drops."""


def test_every_option_of_the_client_is_known() -> None:
    """Whatever pymongo's documentation says of URLs can stand in ours; its deadline for all calls is ours to keep."""
    theirs = set(common.URI_OPTIONS_VALIDATOR_MAP)

    assert theirs - PASSTHROUGH - NOT_OF_URLS == {"timeoutms"}


def test_how_an_app_reads_its_own_documents_is_none_of_ours(connect: Callable[..., MongoBroker], queue: str) -> None:
    """A URL that is shared with an app works whatever it says of concerns and ids, and sessions can be ended."""
    options = "&readConcernLevel=linearizable&uuidRepresentation=standard"
    broker = connect(shared_set().url("plugin") + options, prefix=unique_name("t"))
    broker.send([Envelope(id=new_id(), queue=queue, body=b"")])

    held = broker.receive([queue], limit=1, wait=PATIENCE, lease=60)

    sessions = [doc["session"] for doc in broker._engine.messages.find({"queue": queue})]
    assert [type(session) for session in sessions] == [Binary]
    assert broker.commit([CommitItem(settlement=Ack(one), records=(Record(key="result:1"),)) for one in held]) == [True]


@pytest.mark.parametrize(
    "option",
    [
        "tls=perhaps",
        "maxPoolSize=many",
        "journal=maybe",
        "authMechanism=BOGUS",
        "readPreference=any",
        "tlsCertificateKeyFile=/nowhere&tlsCertificateKeyFilePassword=hunter2",
        "authMechanismProperties=hunter2",
    ],
)
def test_a_value_that_the_client_cannot_use_is_refused(option: str) -> None:
    """One error in plain words before anything is opened, and not a connection without what was asked for."""
    broker = MongoBroker(EngineURL.parse(f"mongodb://user:hunter2@127.0.0.1:9/jobs?{option}"))

    with pytest.raises(ConfigError, match="pymongo cannot use the URL") as caught:
        broker.queues()

    assert "hunter2" not in str(caught.value)


def test_a_port_that_cannot_be_is_refused() -> None:
    """What the client says of the URL itself is an error of ours as well."""
    with pytest.raises(ConfigError, match="Port must be"):
        MongoBroker(EngineURL.parse("mongodb://h:99999/jobs")).queues()


def test_one_engine_however_it_is_written() -> None:
    """Order and default ports of hosts, user and options make no difference; database and prefix do."""
    one = engine_id(EngineURL.parse("mongodb://a:27017,b/jobs?w=1"), "queuekit")

    assert engine_id(EngineURL.parse("mongodb://user:x@B,a/jobs"), "queuekit") == one
    assert engine_id(EngineURL.parse("mongodb://a,b/other"), "queuekit") != one
    assert engine_id(EngineURL.parse("mongodb://a,b/jobs"), "other") != one


def test_unknown_options_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that is neither ours nor pymongo's is an error that names the nearest one."""
    monkeypatch.chdir(tmp_path)
    app = Queuekit(broker="mongodb://localhost/jobs?prefixx=a")

    with pytest.raises(ConfigError, match="did you mean 'prefix'"):
        _ = app.runtime


def test_the_plugin_imports_no_client_library() -> None:
    """Loading the plugin, as every command does, imports neither pymongo nor bson."""
    code = (
        "import sys, queuekit_mongo.plugin as plugin; plugin.queuekit_brokers(); plugin.queuekit_backends(); "
        "print('pymongo' in sys.modules, 'bson' in sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.split() == ["False", "False"]
