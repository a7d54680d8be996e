"""Tasks: registered functions, their options, annotations and unique keys.

Import ``task.Task``, ``registry.Tasks`` and ``resolve.resolve``.
Imports from: the top of the package, encoding, wire, workflows.
"""
