"""One module for each queue that is measured: its tasks, its settings and the command of its worker."""
