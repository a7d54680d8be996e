"""What an operator does with queues and records.

Import ``admin.Admin``.
Imports from: the contracts at the top of the package, wire, client, execution.
"""
