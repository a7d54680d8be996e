"""Formats of stored and sent data: records, positions in workflows, the options of a call, signatures.

Import any module; all of them are pure, and none calls an engine.
Imports from: the top of the package, logs.
"""
