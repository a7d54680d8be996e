-- KEYS: list that one worker waits on. Wakes it, also where the server is full; if it has gone, that is forgotten.
redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[1], '1')
return redis.call('PEXPIRE', KEYS[1], 10000)
