"""Operate queues, messages and records.

Import ``admin.Admin``.
Imports from: the top of the package, logs, encoding, wire, plugins, config, limiting, tasks, client, schedules,
execution.
"""
