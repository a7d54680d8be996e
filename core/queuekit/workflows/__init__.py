"""What a caller writes: chains, groups and chords, compiled to messages, and the handles on their results.

Import ``canvas`` to build, ``compile`` to make a workflow ready to run, ``results`` to read.
Imports from: the contracts at the top of the package, wire.
"""
