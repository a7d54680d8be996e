"""Registered functions: their options, annotations and unique keys.

Import ``task.Task`` and ``registry.Tasks``.
Imports from: the top of the package, encoding, wire, workflows.
"""
