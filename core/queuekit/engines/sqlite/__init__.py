"""``sqlite:///FILE``: a broker and a backend in one file, for the processes of one machine.

From the bottom up:

- ``options``: the options of a URL;
- ``layout``: the tables, and their creation in an empty file;
- ``boot_clock``, ``file_clock`` and ``settime``: a time that never steps back;
- ``checks``: the location of the file;
- ``connection``: a connection per thread, none across a fork, and errors that name the fix;
- ``database`` and ``statements``: statements that wait for their turn, and transactions;
- ``pipes`` and ``waiting``: named pipes that notify waiting processes;
- ``rows``: many envelopes with one statement, in and out;
- ``foreign_rows``: rows that queuekit did not write;
- ``tokens``, ``sending``, ``claiming``, ``settling``, ``records``, ``committing``, ``upkeep``, ``inspection``: the
  operations on messages and records;
- ``broker`` and ``backend``: the contracts, each method a few lines over the above.
"""

from queuekit.engines.sqlite.backend import SqliteBackend
from queuekit.engines.sqlite.broker import SqliteBroker
from queuekit.engines.sqlite.options import SqliteOptions

__all__ = ["SqliteBackend", "SqliteBroker", "SqliteOptions"]
