-- KEYS: set of the names of queues. ARGV: names. Removes a member that does not exist first: a full server refuses
-- scripts whose first write adds data, but a worker must be able to settle.
redis.call('SREM', KEYS[1], '')
return redis.call('SADD', KEYS[1], unpack(ARGV))
