"""Redis and Valkey for queuekit: a broker and a result backend.

- ``plugin``: the hooks that core calls first; imports no client library;
- ``options``, ``urls``: what a URL and the config table ``[redis]`` set;
- ``capabilities``: what broker and backend can do on a single server and on a Cluster;
- ``keys``, ``layout``: the names of all keys, and the version of what they hold;
- ``encoding``: envelopes and records as bytes;
- ``scripts`` and ``lua/``: the steps that must be atomic, as files;
- ``failures``, ``deadlines``, ``link``, ``connections``, ``sentinel``, ``server``, ``cluster``: send commands and
  return replies or one error;
- ``waiting``: blocks a worker until there is something to do;
- ``broker``, ``claiming``, ``settling``, ``committing``, ``inspection``, ``backend``, ``checks``: the contracts.
"""
