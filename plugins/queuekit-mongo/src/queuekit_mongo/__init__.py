"""MongoDB for queuekit: messages and results as documents.

From the bottom up:

- ``capabilities`` and ``options``: what it can do, and what a URL or the table ``[mongo]`` may set;
- ``urls``: deployment and database of a URL;
- ``layout``: the layout of documents, and the indexes over them;
- ``indexes``: how existing indexes differ from those;
- ``failures`` and ``replies``: errors of the client library as ours, and the wait for replies;
- ``servertime``: the server's time, without asking for it each time;
- ``engine``: the client, its collections, calls with a deadline, transactions;
- ``waiting``: change streams that notify waiting workers;
- ``sending``, ``claiming``, ``leases``, ``settling``, ``records``, ``groups``, ``committing``, ``inspection``,
  ``checks``: what is done to documents;
- ``broker`` and ``backend``: the contracts, each method a few lines over the above;
- ``plugin``: the hooks that core calls first; it imports no client library.
"""
