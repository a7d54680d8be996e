"""Text for logs and terminals that outside input cannot forge, and logging of unexpected errors.

Import ``plaintext`` to clean text, and ``errors.log_error`` to log an unexpected error.
Imports from: nothing of queuekit.
"""
