"""Settings: where each one comes from, and whether it is valid.

Import ``settings.load`` and ``settings.Config``.
Imports from: the contracts at the top of the package, plugins, wire.
"""
