"""Conversion of values to plain data and JSON text: the building blocks of the default serializer.

Import ``plain_json``, ``moments`` and ``classes``; all of them are pure.
Imports from: the top of the package.
"""
