"""For developers of an app: run all of it in one terminal, reload it, and run one call in a debugger."""
