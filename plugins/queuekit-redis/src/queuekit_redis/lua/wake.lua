-- KEYS: list that one worker waits on. Wakes it even if the server is full; the list expires if the worker is gone.
redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[1], '1')
return redis.call('PEXPIRE', KEYS[1], 10000)
