"""MongoDB for queuekit: messages and results as documents.

From the bottom up:

- ``capabilities`` and ``options``: what it can do, and the options of a URL and of the config table ``[mongo]``;
- ``urls``: deployment and database of a URL;
- ``layout``: the layout of documents, and their indexes;
- ``indexes``: how existing indexes differ from those;
- ``failures`` and ``replies``: conversion of the client library's errors, and the wait for replies;
- ``servertime``: the server's time, without a round trip for each use;
- ``engine``: the client, its collections, calls with a deadline, transactions;
- ``waiting``: change streams that notify waiting workers;
- ``sending``, ``claiming``, ``leases``, ``settling``, ``records``, ``groups``, ``committing``, ``inspection``,
  ``checks``: operations on documents;
- ``broker`` and ``backend``: the contracts, whose methods call the modules above;
- ``plugin``: the hooks that core calls first; it imports no client library.
"""
