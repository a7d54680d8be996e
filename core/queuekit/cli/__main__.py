"""Run ``queuekit`` as ``python -m queuekit.cli``."""

from queuekit.cli import main

main()
