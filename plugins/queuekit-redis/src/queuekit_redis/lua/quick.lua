-- The start of the quick scripts, which move plain messages of one queue in bulk. KEYS[1]: queue.
local call, pack, unpack_from, sub, byte = redis.call, struct.pack, struct.unpack, string.sub, string.byte
local base = KEYS[1]
local messages, claims = base .. ':messages', base .. ':claims'
local time = call('TIME')
local now = time[1] * 1e6 + time[2]
