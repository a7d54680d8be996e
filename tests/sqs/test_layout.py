"""The layout of the table has a version: another one is refused, in one line with the way out."""

import pytest

from queuekit.backend import Record
from queuekit.errors import UnavailableError
from queuekit.urls import EngineURL
from queuekit_sqs.items import LAYOUT_KEY
from queuekit_testing.kit import unique_name
from support.aws_clients import dynamo_backend
from support.aws_servers import AwsServer


@pytest.mark.parametrize("version", ["0", "2"])
def test_another_layout_is_refused(ministack_server: AwsServer, version: str) -> None:
    """Nothing is read or written by a queuekit that does not know it."""
    url = EngineURL.parse(ministack_server.dynamodb(unique_name("layout")))
    first, second = dynamo_backend(url), dynamo_backend(url)
    first.put([Record(key="result:one", ttl=60)])
    table = first._table
    item = {**LAYOUT_KEY, "layout_version": {"N": version}}
    table.call("put_item", TableName=table.name, Item=item)

    for call in (lambda: second.get(["result:one"]), lambda: second.put([Record(key="result:two", ttl=60)])):
        with pytest.raises(UnavailableError, match=f"layout {version}, this version reads 1") as caught:
            call()
        assert "set another table prefix" in caught.value.fix
        assert not caught.value.passing
    assert list(first.get(["result:one", "result:two"])) == ["result:one"]
    first.close()
    second.close()
