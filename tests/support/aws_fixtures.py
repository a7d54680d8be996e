"""Fixtures with imitations of AWS; a folder's ``conftest.py`` imports those that its tests need.

All folders share the servers: a fixture that several conftests import is a fixture of its own in each.
"""

from collections.abc import Iterator

import pytest

from support.aws_proxy import AwsProxy
from support.aws_servers import AwsServer, shared_ministack, shared_moto

__all__ = ["ministack_server", "moto_in_turn", "moto_server", "proxy"]


@pytest.fixture(scope="session")
def ministack_server() -> AwsServer:
    """Return a ministack for all tests."""
    return shared_ministack()


@pytest.fixture(scope="session")
def moto_in_turn() -> AwsServer:
    """Return a moto that does one request after the other, since its conditional writes are no single steps."""
    return shared_moto(threaded=False)


@pytest.fixture(scope="session")
def moto_server() -> AwsServer:
    """Return a moto for all tests."""
    return shared_moto(threaded=True)


@pytest.fixture
def proxy(ministack_server: AwsServer) -> Iterator[AwsProxy]:
    """Return a proxy before ministack."""
    made = AwsProxy(ministack_server.port).start()
    yield made
    made.stop()
