"""``dynamodb://`` against the suite, on two imitations whose faults are not the same ones."""

from collections.abc import Mapping
from importlib.metadata import version

import pytest

from queuekit.backend import Backend
from queuekit.testing import BackendConformance
from queuekit.urls import EngineURL
from support.aws_clients import dynamo_backend
from support.aws_servers import AwsServer

pytest_plugins = ["queuekit.testing"]


class DynamoConformance(BackendConformance):
    """What both runs have in common: one table for all tests."""

    url: EngineURL

    @property
    def short(self) -> float:
        """Seconds of a life that is meant to end: the clocks of these clients agree, being one."""
        return 1.0

    def make_backend(self) -> Backend:
        """Return one more client of the table, which bears with an imitation that takes its time."""
        return dynamo_backend(self.url)


class TestDynamoOnMinistack(DynamoConformance):
    """Records in ministack."""

    def against(self) -> Mapping[str, str]:
        """Return the versions of imitation and client library."""
        return {name: version(name) for name in ("ministack", "botocore")}

    @pytest.fixture
    def server(self, ministack_server: AwsServer) -> None:
        """Choose the table."""
        self.url = EngineURL.parse(ministack_server.dynamodb("kit"))


@pytest.mark.full
class TestDynamoOnMoto(DynamoConformance):
    """Records in moto."""

    def against(self) -> Mapping[str, str]:
        """Return the versions of imitation and client library."""
        return {name: version(name) for name in ("moto", "botocore")}

    @pytest.fixture
    def server(self, moto_in_turn: AwsServer) -> None:
        """Choose the table."""
        self.url = EngineURL.parse(moto_in_turn.dynamodb("kit"))
