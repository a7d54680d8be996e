"""What is stored or sent, as plain data: ids, a message's position in a workflow, records.

Import any module; all of them are pure.
Imports from: the contracts at the top of the package.
"""
