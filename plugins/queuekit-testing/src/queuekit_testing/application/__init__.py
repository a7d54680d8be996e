"""For tests of an application: its queue in memory, on a clock that the test moves.

The tests of an application need no broker, no worker and no waiting. The code that runs is the worker's: calls go
through the serializer, retries and schedules through the engine, outcomes through the same decisions.
"""
