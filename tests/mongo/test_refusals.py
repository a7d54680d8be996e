"""Whether waiting may mend what a deployment refuses."""

import pytest
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from queuekit.errors import UnavailableError
from queuekit.urls import EngineURL
from queuekit_mongo.failures import Failures

STAYING = {
    "password": OperationFailure("Authentication failed.", 18),
    "rights": OperationFailure("not authorized on jobs to execute command", 13),
    "certificate": ServerSelectionTimeoutError("SSL handshake failed: [SSL: CERTIFICATE_VERIFY_FAILED]"),
    "no-tls": ServerSelectionTimeoutError("SSL handshake failed: [SSL: WRONG_VERSION_NUMBER]"),
}
PASSING = {
    "other-protocol": AutoReconnect("Got response id 808465440 but expected 1804289383"),
    "gone": ServerSelectionTimeoutError("mongo:27017: [Errno 111] Connection refused"),
    "unknown-host": ServerSelectionTimeoutError("mongo:27017: [Errno -2] Name or service not known"),
    "no-primary": ServerSelectionTimeoutError("No replica set members match selector Primary()"),
    "starting": ConfigurationError("Sessions are not supported by this MongoDB deployment"),
    "full": OperationFailure("not enough space", 14031),
}


@pytest.mark.parametrize("error", STAYING.values(), ids=STAYING)
def test_what_only_a_person_can_mend_is_not_waited_for(error: PyMongoError) -> None:
    """It is not passing."""
    made = Failures(EngineURL.parse("mongodb://mongo/jobs")).of(error)

    assert isinstance(made, UnavailableError)
    assert not made.passing


@pytest.mark.parametrize("error", PASSING.values(), ids=PASSING)
def test_what_may_mend_itself_is_waited_for(error: PyMongoError) -> None:
    """A server may start, a name may be found, a primary may be elected, a disk may get room."""
    made = Failures(EngineURL.parse("mongodb://mongo/jobs")).of(error)

    assert isinstance(made, UnavailableError)
    assert made.passing


def test_another_protocol_is_pointed_out() -> None:
    """What answers nonsense may not be MongoDB, which is what to look at."""
    made = Failures(EngineURL.parse("mongodb://mongo/jobs")).of(PASSING["other-protocol"])

    assert isinstance(made, UnavailableError)
    assert made.fix == "Check that MongoDB listens there"
