"""Redis and Valkey for queuekit: a broker and a result backend.

- ``plugin``: what core asks for first; imports no client library;
- ``options``, ``urls``: what a URL and the config table ``[redis]`` say;
- ``abilities``: what broker and backend can do on a single server and on a Cluster;
- ``keys``: every key name, once;
- ``packing``: envelopes and records as bytes;
- ``scripts`` and ``lua/``: every step that must be one, as files;
- ``failures``, ``link``, ``connections``, ``sentinel``, ``server``, ``cluster``: from commands to answers or one error;
- ``waiting``: how a worker sleeps until there is something to do;
- ``broker``, ``settling``, ``committing``, ``inspection``, ``backend``, ``checks``: the contracts of core.
"""
