"""What holds for all tests."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from support import commands

settings.register_profile("steady", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("steady")


@pytest.fixture(scope="session", autouse=True)
def _no_commands_left() -> Iterator[None]:
    """End the process that runs commands before the coverage of all processes is put together."""
    yield
    commands.close()
