"""The engines that ship with core, and what engines share.

Import ``waits`` to wait, ``copies`` and ``uniqueness`` to make up for what an engine lacks; ``memory`` and ``sqlite``
are reached by their URLs.
Imports from: the top of the package, wire.
"""
