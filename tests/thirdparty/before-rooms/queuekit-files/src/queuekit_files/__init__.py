"""A broker for queuekit: files."""
