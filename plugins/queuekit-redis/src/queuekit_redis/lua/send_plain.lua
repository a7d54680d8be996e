-- Sends messages without delay and unique key, the usual case, in bulk.
-- KEYS: queue. ARGV: arguments per message, prefix of the records' keys before the id, milliseconds of records, then,
-- per message, id, blob and, with 3 arguments, the payload of its record (empty: none). Returns whether the queue is
-- new, then the indexes of messages whose id or record exists, which need the slower script.
local stride, records, ttl = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local last = tonumber(call('GET', base .. ':clock') or 0) or 0
local answer, seen, mark = {last == 0 and 1 or 0}, {}, 'M' .. pack('<d', now)

local function parts(from, to)
  local ids, keys, count = {}, {}, 0
  for at = from, to, stride do
    count = count + 1
    ids[count] = ARGV[at]
    if stride > 2 then keys[count] = records .. ARGV[at] end
  end
  return count, ids, keys
end

for from = 4, #ARGV, 1000 * stride do
  local count, ids, keys = parts(from, math.min(from + 1000 * stride - 1, #ARGV))
  local known, olds = call('HMGET', messages, unpack(ids)), {}
  if stride > 2 then olds = call('MGET', unpack(keys)) end
  local stored, ready, kept, at = {}, {}, 0, from
  for index = 1, count do
    local id, blob, record = ids[index], ARGV[at + 1], stride > 2 and ARGV[at + 2]
    if known[index] or seen[id] or (olds[index] and record ~= '') then
      answer[#answer + 1] = (at - 4) / stride
    else
      seen[id] = true
      kept = kept + 2
      last = last < now and now or last + 1
      local level = byte(blob)
      if level > 9 then level = level < 128 and 9 or 0 end
      stored[kept - 1], stored[kept] = id, mark .. blob
      ready[kept - 1], ready[kept] = (9 - level) * 9e14 + math.min(math.max(last - 1704067200e6, 0), 9e14 - 1), id
      if record and record ~= '' then store(keys[index], head_of(ttl) .. record, ttl) end
    end
    at = at + stride
  end
  if kept > 0 then
    call('HSET', messages, unpack(stored))
    call('ZADD', base .. ':ready', unpack(ready))
  end
end
if #answer <= (#ARGV - 3) / stride then
  call('SET', base .. ':clock', string.format('%.0f', last))
  if call('EXISTS', base .. ':notifier') == 0 then call('RPUSH', base .. ':notifier', '1') end
end
return answer
