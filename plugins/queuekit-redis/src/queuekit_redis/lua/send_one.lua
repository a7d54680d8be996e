-- Sends one message without delay and unique key, the usual case, as fast as possible.
-- KEYS: queue, and the key of its record, if any. ARGV: id, blob, and payload and milliseconds of the record.
-- Returns 1 if the queue is new, 0 if not, -1 if the id or the record exists, which needs the slower script.
local call = redis.call
local base, record_key = KEYS[1], ARGV[3] and KEYS[2]
local time = call('TIME')
local at = time[1] * 1e6 + time[2]
if record_key and call('EXISTS', record_key) == 1 then return -1 end
if call('HSETNX', base .. ':messages', ARGV[1], 'M' .. struct.pack('<d', at) .. ARGV[2]) == 0 then return -1 end
local last = tonumber(call('GET', base .. ':clock'))
if last and last >= at then
  at = last + 1
end
if not last or at == last + 1 then
  call('SET', base .. ':clock', string.format('%.0f', at))
end
if record_key then
  local ttl = tonumber(ARGV[4])
  local ends = ttl < 0 and 0 or at + ttl * 1000
  local record = struct.pack('<dd', at, ends) .. ARGV[3]
  if ttl < 0 then call('SET', record_key, record) else call('SET', record_key, record, 'PX', ttl) end
end
local level = string.byte(ARGV[2])
if level > 9 then level = level < 128 and 9 or 0 end
call('ZADD', base .. ':ready', (9 - level) * 9e14 + math.min(math.max(at - 1704067200e6, 0), 9e14 - 1), ARGV[1])
if call('EXISTS', base .. ':bell') == 0 then call('RPUSH', base .. ':bell', '1') end
return last and 0 or 1
