"""The engines that ship with core, and what engines share.

Import the factories ``MemoryBroker``, ``MemoryBackend``, ``SQLiteBroker`` and ``SQLiteBackend`` by the names that the
built-in plugin gives.
Imports from: the contracts at the top of the package.
"""
