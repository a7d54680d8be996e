-- Sends one message without unique key, the usual case, as fast as possible.
-- KEYS: queue, and the key of its record, if any. ARGV: id, blob, payload and milliseconds of the record (empty: none),
-- and delay and not_before of a message that is not due at once.
-- Returns 1 if the queue is new, 0 if not, -1 if the id or the record exists, which needs the slower script.
local call = redis.call
local base, due = KEYS[1], 0
-- On a Cluster, another key is declared, which is not of a record.
local record_key = ARGV[4] and ARGV[4] ~= '' and KEYS[2]
local time = call('TIME')
local now = time[1] * 1e6 + time[2]
local at = now
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
if ARGV[5] then
  local delay, not_before = struct.unpack('<dd', ARGV[5])
  -- After the server's clock was set back, positions are ahead of it and do not measure time.
  due = delay > 0 and math.max((at - now > 1e6 and now or at) + delay, not_before) or not_before
end
if due > now then
  local head = call('ZRANGE', base .. ':delayed', 0, 0, 'WITHSCORES')[2]
  call('ZADD', base .. ':delayed', math.min(due, 9e15), level .. ARGV[1])
  if head and due >= tonumber(head) then return last and 0 or 1 end
else
  call('ZADD', base .. ':ready', (9 - level) * 9e14 + math.min(math.max(at - 1704067200e6, 0), 9e14 - 1), ARGV[1])
end
if call('EXISTS', base .. ':notifier') == 0 then call('RPUSH', base .. ':notifier', '1') end
return last and 0 or 1
