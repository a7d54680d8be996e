"""What keeps calls from running too often or at the same time: rates, slots and locks, as records that expire.

Import ``lock.Lock``, ``rates.Rates``, ``slot_store.Slots``, ``throttle.RateLimit`` and ``slot_block.SlotLimit``.
Imports from: the top of the package, logs, wire.
"""
