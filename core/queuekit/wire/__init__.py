"""Formats of stored and sent data: records, a message's position in a workflow, the options of a call.

Import any module; all of them are pure, and none calls an engine.
Imports from: the top of the package.
"""
