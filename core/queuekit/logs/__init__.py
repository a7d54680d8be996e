"""Text for logs and terminals: nothing from outside moves a cursor, and no log line raises.

Import ``errors.log_error`` and ``plaintext``.
Imports from: nothing of the package.
"""
