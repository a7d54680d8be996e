"""Settings: where each one comes from, and whether it is valid.

Import ``settings``; ``sources`` is its part.
Imports from: the top of the package, wire, plugins.
"""
