"""Calls that are sent at set times: triggers, declarations, and the scheduler that sends due calls.

Import ``triggers`` and ``schedule`` for data, ``manager`` to change schedules, ``scheduler.Scheduler`` to run them.
Imports from: the top of the package, logs, wire, workflows, tasks, client.
"""
