"""A broker for queuekit: postgres."""
