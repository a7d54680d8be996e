"""What happens to one delivery: decode, run, decide, commit, advance its workflow.

Import ``executor.Executor`` to run, ``commit.write`` to store outcomes, ``workflow_advance`` for what follows.
Imports from: the top of the package, logs, wire, config, workflows, tasks, client.
"""
