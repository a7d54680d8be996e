"""Text for logs and terminals, which nothing from outside can forge, and the logging of unexpected errors.

Import ``plaintext`` to clean text, and ``errors.log_error`` for an error that nobody expected.
Imports from: nothing of queuekit.
"""
