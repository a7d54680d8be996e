"""Runs threads in turns that a seed decides: a search over interleavings that can be repeated."""

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

from support.waiting import PATIENCE

__all__ = ["Interleaving", "Stepping"]


class Interleaving:
    """Lets one thread run at a time, from one call of an engine to the next.

    Args:
        seed: Decides who runs next.
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._turns: dict[int, threading.Semaphore] = {}
        self._arrived = threading.Semaphore(0)
        self._waiting: set[int] = set()

    def step(self) -> None:
        """Wait for the next turn; threads that are not part of the search go on."""
        me = threading.get_ident()
        if me in self._turns:
            self._waiting.add(me)
            self._arrived.release()
            self._turns[me].acquire()

    def run(self, bodies: Sequence[Callable[[], Any]]) -> None:
        """Run *bodies* to their ends."""
        errors: list[BaseException] = []
        threads = [threading.Thread(target=self._body, args=(body, errors)) for body in bodies]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert self._arrived.acquire(timeout=PATIENCE)
        left = len(threads)
        while left:
            chosen = self._chance.choice(sorted(self._waiting, key=list(self._turns).index))
            self._waiting.remove(chosen)
            self._turns[chosen].release()
            assert self._arrived.acquire(timeout=PATIENCE)
            left -= chosen not in self._waiting
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _body(self, body: Callable[[], Any], errors: list[BaseException]) -> None:
        self._turns[threading.get_ident()] = threading.Semaphore(0)
        self.step()
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the test
            errors.append(error)
        self._arrived.release()


class Stepping:
    """A backend whose calls are the steps of a search; everything else is that of the inner one."""

    def __init__(self, backend: Any, search: Interleaving) -> None:
        self._backend, self._search = backend, search

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            self._search.step()
            return found(*args, **options)

        return call
