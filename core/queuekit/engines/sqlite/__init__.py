"""``sqlite:///FILE``: a broker and a backend in one file, for the processes of one machine.

From the bottom up:

- ``options``: what a URL says;
- ``schema``: the tables, and how an empty file becomes a database of ours;
- ``timekeeping``: a time that never steps back;
- ``connection``: a connection per thread, none across a fork, and errors in plain words;
- ``database``: statements that wait for their turn, and transactions;
- ``bell``: named pipes that wake waiting processes;
- ``rows``: many envelopes with one statement, in and out;
- ``strangers``: rows that nobody of ours wrote;
- ``fences``, ``sending``, ``claiming``, ``settling``, ``records``, ``committing``, ``upkeep``, ``inspection``: what is
  done to messages and records;
- ``broker`` and ``backend``: the contracts, each method a few lines over the above.
"""

from queuekit.engines.sqlite.backend import SqliteBackend
from queuekit.engines.sqlite.broker import SqliteBroker
from queuekit.engines.sqlite.options import SqliteOptions

__all__ = ["SqliteBackend", "SqliteBroker", "SqliteOptions"]
