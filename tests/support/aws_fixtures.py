"""Fixtures with imitations of AWS; a folder's ``conftest.py`` imports those that its tests need."""

from collections.abc import Iterator

import pytest

from support.aws_proxy import AwsProxy
from support.aws_servers import AwsServer, ministack, moto

__all__ = ["ministack_server", "moto_in_turn", "moto_server", "proxy"]


@pytest.fixture(scope="session")
def ministack_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    """Return a ministack for all tests."""
    server = ministack(tmp_path_factory.mktemp("ministack"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def moto_in_turn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    """Return a moto that does one request after the other, since its conditional writes are no single steps."""
    server = moto(tmp_path_factory.mktemp("moto"), threaded=False)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    """Return a moto for all tests."""
    server = moto(tmp_path_factory.mktemp("moto"), threaded=True)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def proxy(ministack_server: AwsServer) -> Iterator[AwsProxy]:
    """Return a proxy before ministack."""
    made = AwsProxy(ministack_server.port).start()
    yield made
    made.stop()
