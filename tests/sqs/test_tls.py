"""TLS in front of an imitation of AWS, by the options that all engines share."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from queuekit.envelope import Envelope
from queuekit.errors import UnavailableError
from support.aws_clients import dynamo_backend, sqs_broker
from support.aws_servers import AwsServer
from support.redis_tls import Authority, tls_in_front

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return who has signed the server's certificate."""
    return Authority.make(tmp_path, "authority")


@pytest.fixture
def address(ministack_server: AwsServer, authority: Authority) -> Iterator[str]:
    """Return credentials and an address that speaks TLS, with a certificate for ``localhost``."""
    with tls_in_front(ministack_server.port, authority.sign("localhost")) as port:
        yield f"key:secret@localhost:{port}"


def test_works_over_tls(address: str, authority: Authority) -> None:
    """``ca_file`` says whom to trust; ``verify`` can say that everybody is trusted."""
    trusting = sqs_broker(f"sqs+https://{address}/tls", ca_file=authority.file, region="us-east-1")
    blind = dynamo_backend(f"dynamodb+https://{address}/tls", verify="none", region="us-east-1")

    with closing(trusting), closing(blind):
        assert trusting.send([Envelope(id="one", queue="tls", body=b"x")]) == ["one"]
        assert blind.get(["result:1"]) == {}


def test_refuses_whom_it_does_not_trust(address: str, tmp_path: Path) -> None:
    """A certificate that somebody else signed is refused, for good."""
    other = Authority.make(tmp_path, "other")
    broker = sqs_broker(f"sqs+https://{address}/tls", ca_file=other.file, region="us-east-1")

    with closing(broker), pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        broker.send([Envelope(id="one", queue="tls", body=b"x")])

    assert not caught.value.passing


def test_names_option_and_file(tmp_path: Path) -> None:
    """A file that cannot be read is named with its option."""
    none = tmp_path / "none.pem"
    broker = sqs_broker("sqs+https://key:secret@127.0.0.1:1/tls", cert_file=none, region="us-east-1")

    with closing(broker), pytest.raises(UnavailableError, match=f"cert_file, {none}, cannot be read"):
        broker.send([Envelope(id="one", queue="tls", body=b"x")])
