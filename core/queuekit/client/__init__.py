"""The client side of an app: its engines, the codec of messages, the sender, and the reader of results.

Import ``runtime.Runtime``, ``codec``, ``sender.Sending`` and ``results.Results``.
Imports from: the top of the package, logs, wire, engines, plugins, config, tasks.
"""
