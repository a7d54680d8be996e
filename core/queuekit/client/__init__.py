"""What an app sends with: its engines, the codec of messages, the sender.

Import ``runtime.Runtime``, ``codec`` and ``sender.Sending``.
Imports from: the top of the package, wire, engines, plugins, config, tasks.
"""
