"""Chains, groups and chords: as written, compiled, and the handles on their results.

Import ``canvas`` to build, ``workflow`` for what is built, ``compile`` for stored graphs, ``results`` to read
outcomes.
Imports from: the top of the package, wire, engines.
"""
