"""MongoDB for queuekit: messages and results as documents.

From the bottom up:

- ``abilities`` and ``options``: what it can do, and what a URL or the table ``[mongo]`` may say;
- ``urls``: from a URL to a deployment and a database;
- ``documents``: what documents look like, and the indexes over them;
- ``indexes``: which there have to be, and what is there instead;
- ``failures``: errors of the client library in plain words;
- ``servertime``: the server's time, without asking for it each time;
- ``engine``: the client, its collections, calls with a deadline, transactions;
- ``waiting``: change streams that wake those who wait;
- ``sending``, ``claiming``, ``leases``, ``settling``, ``records``, ``groups``, ``committing``, ``inspection``,
  ``checks``: what is done to documents;
- ``broker`` and ``backend``: the contracts, each method a few lines over the above;
- ``plugin``: what the app is told about all this; it imports no client library.
"""
