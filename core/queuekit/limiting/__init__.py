"""What keeps calls from running too often or at the same time: rates and locks, as records that expire.

Import ``lock.Lock``, ``rates.Rates`` and ``throttle.RateLimit``.
Imports from: the top of the package, logs, wire.
"""
