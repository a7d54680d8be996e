"""Registered functions and their options.

Import ``task.Task`` and ``registry.Registry``.
Imports from: the contracts at the top of the package, wire, workflows.
"""
