"""A worker that a program runs itself."""

import pytest

from queuekit import Queuekit
from queuekit.errors import AppError, CapabilityError

app = Queuekit(broker="memory://")


def test_runs_once() -> None:
    """A second run would be one that nobody could stop."""
    worker = app.worker()

    with pytest.raises(CapabilityError):
        worker.run()
    with pytest.raises(AppError, match="this worker has already run"):
        worker.run()
