"""Process one delivery: decode, run, decide, commit, advance its workflow.

Import ``executor.Executor`` to run, ``commit.write`` to store outcomes, ``workflow_advance`` to advance workflows.
Imports from: the top of the package, logs, wire, config, workflows, limiting, tasks, client.
"""
