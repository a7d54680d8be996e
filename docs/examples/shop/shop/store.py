"""What the shop keeps: goods, orders and the letters that it has written. In memory, as an example may."""

from __future__ import annotations

import threading
from collections import Counter


class SoldOutError(Exception):
    """There are not enough pieces."""


class Store:
    """Goods and orders."""

    def __init__(self, **pieces: int) -> None:
        self.pieces = Counter(pieces)
        self.orders: dict[str, str] = {}
        """State by number of the order."""
        self.taken: dict[tuple[str, str], int] = {}
        """Pieces by order and good."""
        self.sales: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, order: str, good: str, count: int) -> None:
        """Take pieces for an order; a second time takes nothing, since a message may come twice."""
        with self._lock:
            if (order, good) in self.taken:
                return
            if self.pieces[good] < count:
                raise SoldOutError(f"{good}: {count} wanted, {self.pieces[good]} left")
            self.pieces[good] -= count
            self.taken[order, good] = count

    def give_back(self, order: str) -> int:
        """Give back what was taken for an order, and return how many pieces that were."""
        with self._lock:
            mine = [key for key in self.taken if key[0] == order]
            back = {good: self.taken.pop((order, good)) for _, good in mine}
            self.pieces.update(back)
            return sum(back.values())


class Post:
    """Sends mail; the mail server of this example is always up."""

    def __init__(self) -> None:
        self.letters: list[tuple[str, str]] = []

    def send(self, to: str, text: str) -> None:
        """Send one letter."""
        self.letters.append((to, text))
