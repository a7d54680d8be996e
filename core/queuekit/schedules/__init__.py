"""Calls that are sent again and again: triggers, declarations, and the scheduler that sends what is due.

Import ``triggers`` and ``schedule`` for data, ``scheduler.Scheduler`` to lead.
Imports from: the contracts at the top of the package, wire, workflows, tasks, client.
"""
