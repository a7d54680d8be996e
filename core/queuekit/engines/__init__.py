"""The engines that ship with core, and code that engines share.

Import ``waits`` to wait, ``copies`` and ``uniqueness`` to emulate missing capabilities. ``memory`` and ``sqlite`` are
selected by URL.
Imports from: the top of the package, wire.
"""
