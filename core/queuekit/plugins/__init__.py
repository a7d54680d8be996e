"""How plugins are found, loaded, selected by URL and asked for engines.

Import ``manager.Plugins`` to use plugins, and ``options`` to read settings into attrs classes.
Imports from: the top of the package.
"""
