"""Redis and Valkey for queuekit: a broker and a result backend.

- ``plugin``: the hooks that core calls first; imports no client library;
- ``options``, ``urls``: the options of a URL and of the config table ``[redis]``;
- ``capabilities``: the capabilities of broker and backend on a single server and on a Cluster;
- ``keys``, ``layout``: the names of all keys, and the version of their contents;
- ``encoding``: converts envelopes and records to bytes and back;
- ``scripts`` and ``lua/``: the steps that must be atomic, as files;
- ``failures``, ``deadlines``, ``link``, ``connections``, ``sentinel``, ``server``, ``cluster``: send commands and
  return replies, or raise one kind of error;
- ``waiting``: blocks a worker until there is something to do;
- ``broker``, ``claiming``, ``settling``, ``committing``, ``inspection``, ``backend``, ``checks``: the contracts.
"""
