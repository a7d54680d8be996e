"""How installed plugins are found, loaded, selected by URL and asked to make engines.

Import ``manager.Plugins`` for everything; the other modules are its parts.
Imports from: the contracts at the top of the package, engines.
"""
