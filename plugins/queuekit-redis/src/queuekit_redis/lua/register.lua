-- KEYS: set of the names of queues. ARGV: names. What is taken away first is not there: a full server refuses scripts
-- whose first write adds, and a worker must be able to settle.
redis.call('SREM', KEYS[1], '')
return redis.call('SADD', KEYS[1], unpack(ARGV))
