"""What keeps calls from running at the same time: locks, as records with a holder that expire.

Import ``lock.Lock``.
Imports from: the top of the package, wire.
"""
