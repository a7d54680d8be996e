"""A consumer without any library of tasks, in a process of its own as a worker is: when does it know of a message?

``python redis_wake.py URL plain`` takes what is pushed; ``leased`` takes the steps that any worker must take that loses
nothing: a claim under a lease, a look for a cancellation, JSON, and a thread that runs the body. Each answers with the
moment, in monotonic seconds.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time

import redis

__all__ = ["ANSWER", "CLAIM", "MESSAGE", "NOTIFIER"]

NOTIFIER, ANSWER, MESSAGE = "wake:notifier", "wake:answer", "wake:m"
CLAIM = """
local time = redis.call('TIME')
local now = time[1] * 1e6 + time[2]
local taken = redis.call('ZPOPMIN', 'wake:r', 8)
redis.call('DEL', 'wake:notifier')
if #taken == 0 then return {} end
local bodies = redis.call('HMGET', 'wake:m', taken[1])
redis.call('HSET', 'wake:claims', taken[1], 'token')
redis.call('ZADD', 'wake:leased', now + 6e7, taken[1])
return {time[1], redis.call('EXISTS', 'wake:cancelled'), taken[1], bodies[1]}
"""


def main() -> None:
    """Answer until the end of the connection."""
    client = redis.Redis.from_url(sys.argv[1], socket_timeout=None)
    if sys.argv[2] == "plain":
        while True:
            client.brpop(NOTIFIER)
            client.lpush(ANSWER, repr(time.monotonic()))
    claim = client.script_load(CLAIM)
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_run, args=(inbox, redis.Redis.from_url(sys.argv[1])), daemon=True).start()
    while True:
        batch = client.pipeline(transaction=False)
        batch.blpop(NOTIFIER, 0)
        batch.evalsha(claim, 0)
        _, taken = batch.execute()
        for body in taken[3::4]:
            inbox.put(body)


def _run(inbox: queue.SimpleQueue[bytes], client: redis.Redis) -> None:
    tasks = {"benchapp.clock": time.monotonic}
    while True:
        head, call = inbox.get().split(b"\n", 1)
        name, arguments = json.loads(head)["task"], json.loads(call)
        began = tasks[name](*arguments["args"], **arguments["kwargs"])
        client.lpush(ANSWER, repr(began))


if __name__ == "__main__":
    main()
