"""``python -m queuekit.cli``: the same as ``queuekit``."""

from queuekit.cli import main

main()
