"""A small shop: a web server that sends tasks, and the tasks."""
