"""Sessions of botocore that leave out what no client of ours needs."""

import os
from itertools import product
from pathlib import Path

import pytest

pytest.importorskip("botocore", reason="pip install botocore")

from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader
from botocore.session import Session

from queuekit_sqs.sessions import _Descriptions, _Files, new_session

SERVICES = ("sqs", "dynamodb", "s3", "cloudwatch", "sts")
"""Those of our clients, and the one that gives the credentials of a role."""
VERBS = (
    "choose-service-name",
    "creating-client-class",
    "before-parameter-build",
    "before-endpoint-resolution",
    "before-call",
    "request-created",
    "choose-signer",
    "before-sign",
    "needs-retry",
    "before-parse",
    "after-call",
)


def fresh() -> _Descriptions:
    """Return a loader whose data no client has completed: botocore does so in place, in its own sessions as well."""
    return _Descriptions(file_loader=_Files())


@pytest.mark.parametrize("service", SERVICES)
def test_events_have_the_handlers_of_botocore(service: str) -> None:
    """What botocore does before, at and after a request, it does here."""
    ours = new_session(None).get_component("event_emitter")
    theirs = Session().get_component("event_emitter")._emitter

    for verb, operation in product(VERBS, ("PutObject", "SendMessageBatch", "AssumeRoleWithWebIdentity")):
        event = f"{verb}.{service}.{operation}"
        assert list(ours._handlers.prefix_search(event)) == list(theirs._handlers.prefix_search(event))


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1"])
def test_descriptions_are_those_of_botocore(service: str, kind: str) -> None:
    """The same version of the same service is read, from a file that is packed or not."""
    assert fresh().load_service_model(service, kind) == Loader().load_service_model(service, kind)


def test_regions_are_those_of_botocore() -> None:
    """The largest file is the same, too."""
    assert fresh().load_data("endpoints") == Loader().load_data("endpoints")


def test_a_missing_description_is_botocores_error() -> None:
    """A service of a later botocore is missing, as botocore itself says it."""
    with pytest.raises(BotoCoreError):
        fresh().load_service_model("no-such-service", "service-2")


def test_the_folders_of_other_services_stay_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are four hundred, and botocore looks into each for each kind of description."""
    looked_into: list[str] = []
    listdir = os.listdir

    def noted(path: str) -> list[str]:
        looked_into.append(Path(path).name)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", noted)
    loader = fresh()

    loader.load_service_model("sqs", "service-2")
    loader.load_service_model("sqs", "endpoint-rule-set-1")

    assert set(looked_into) <= {"data", "models", "sqs"}


def test_a_folder_of_descriptions_is_heeded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``AWS_DATA_PATH`` comes before the descriptions that all sessions share."""
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))

    assert str(tmp_path) in new_session(None).get_component("data_loader").search_paths
