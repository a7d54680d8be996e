"""An app on SQS and DynamoDB that was used before a fork: its children use it as well."""

import pytest

from queuekit_testing.kit import unique_name
from support.aws_servers import AwsServer
from support.forks import forked


@pytest.mark.full
def test_a_fork_sends_and_gets_results(ministack_server: AwsServer) -> None:
    """A child has threads, locks and connections of its own, whatever its parent was doing when it forked."""
    name = unique_name("fork")
    urls = {"QUEUEKIT_BROKER": ministack_server.sqs(name), "QUEUEKIT_BACKEND": ministack_server.dynamodb(name)}

    done = forked(urls)

    assert done.returncode == 0, done.stderr
