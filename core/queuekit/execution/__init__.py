"""What happens to one delivery: decode, run, decide, commit, and advance its workflow.

Import ``executor.Executor`` and ``workflow_advance.Flows``. No thread begins here.
Imports from: the contracts at the top of the package, wire, workflows, tasks, client.
"""
