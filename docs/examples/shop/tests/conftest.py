"""Tests of the shop: no broker, no worker, no waiting. ``--queuekit-url redis://...`` runs them on a real engine."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from shop.store import Post, Store
from shop.tasks import app, post, store
from shop.web import web

from queuekit import Queuekit
from queuekit.testing import AppQueue

pytest_plugins = ["queuekit.testing"]


@pytest.fixture
def queue_app() -> Queuekit:
    """Return the app of the shop."""
    return app


@pytest.fixture
def stock(queue: AppQueue) -> Store:
    """Return the goods of one test, which all its tasks and handlers see."""
    made = Store(tea=10, cup=2)
    queue.override(store, made)
    return made


@pytest.fixture
def letters(queue: AppQueue) -> list[tuple[str, str]]:
    """Return the letters that the tasks of one test send."""
    made = Post()
    queue.override(post, made)
    return made.letters


@pytest.fixture
def client(queue: AppQueue) -> Iterator[TestClient]:
    """Return a browser."""
    with TestClient(web) as made:
        yield made
