"""Finds, loads and selects plugins, and creates engines through them.

Import ``manager.Plugins`` to use plugins, and ``options`` to read settings into attrs classes.
Imports from: the top of the package.
"""
