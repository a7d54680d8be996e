"""How one message is told of."""

import pytest

from queuekit.cli.message_view import cancel_text
from queuekit.wire.records import Cancellation


@pytest.mark.parametrize(
    ("did", "ended", "text"),
    [
        ("", False, "asked for by me; no worker has seen the request yet"),
        ("", True, "asked for by me"),
        ("raised", True, "asked for by me; an exception was raised in its body"),
    ],
)
def test_says_what_a_wish_to_cancel_did(did: str, ended: bool, text: str) -> None:  # noqa: FBT001
    """But not of what has ended that a worker may see it yet."""
    wish = Cancellation(by="me", did=did)

    assert cancel_text(wish, now=0.0, ended=ended) == text
