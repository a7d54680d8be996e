"""Values as plain data and text: what the default serializer is made of.

Import ``plain_json``, ``moments`` and ``classes``; all of them are pure.
Imports from: the top of the package.
"""
