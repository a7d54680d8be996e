"""``memory://``: a broker and a backend in this process, and the reference of both contracts.

Each file holds one idea, from the bottom up:

- ``priority_queue``: a priority queue with removal from the middle;
- ``keys``: unique keys and who holds them;
- ``queue`` and ``messages``: queues, and every move that a message can make;
- ``records``: expiring records and groups;
- ``engine``: the lock, the clock, and how a broker and a backend of one URL meet;
- ``broker`` and ``backend``: the contracts, each method a few lines over the above.

The stores take the time as an argument and use no locks, so they are easy to read and to test.
"""

from queuekit.engines.memory.backend import MemoryBackend
from queuekit.engines.memory.broker import MemoryBroker
from queuekit.engines.memory.engine import MemoryEngine

__all__ = ["MemoryBackend", "MemoryBroker", "MemoryEngine"]
