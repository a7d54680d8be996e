"""Chains, groups and chords: their definition, their compiled graphs, and the handles on their results.

Import ``canvas`` to build workflows, ``workflow`` for their classes, ``compile`` for graphs, ``results`` for handles.
Imports from: the top of the package, wire, engines.
"""
