"""What an app sends and reads results with: its engines, the codec of messages, the sender.

Import ``runtime.Runtime``, ``codec``, ``sender.Sending`` and ``results.Results``.
Imports from: the top of the package, wire, engines, plugins, config, tasks.
"""
