-- KEYS: queue. ARGV: prefix of unique keys, most, then ids (none: the oldest dead letters). Returns the ids replayed.
local q, unique_prefix, replayed = opened(KEYS[1]), ARGV[1], {}

local function replay(id)
  local value = call('HGET', q.messages, id)
  if not value or has_left(value) or call('ZREM', q.dead, id) == 0 then return end
  value = whole(value)
  local _, sent, priority, flags, generation = unpack_from(MESSAGE, value)
  value = pack(MESSAGE, 'M', sent, priority, flags, generation + 1, 0, 0) .. value:sub(24)
  local state = call('HGET', q.claims, id)
  local number = claim_of(state)
  call('HDEL', q.death_records, id)
  local key, _, ttl = unique_of(value)
  if key then
    call('SET', unique_prefix .. key, q.base .. '\0' .. id, 'PX', math.max(1, math.floor(math.min(ttl, 1e9) * 1000)), 'NX')
  end
  call('HSET', q.messages, id, value)
  call('HSET', q.claims, id, pack(CLAIM, number, 0, 0))
  schedule(q, id, math.min(math.max(priority, 0), 9), 0, lane_of(value))
  table.insert(replayed, id)
end

if #ARGV > 2 then
  -- Replay the oldest dead letter first, whatever the order of the ids.
  local dead = {}
  for at = 3, #ARGV do
    local since = call('ZSCORE', q.dead, ARGV[at])
    if since then table.insert(dead, {tonumber(since), ARGV[at]}) end
  end
  table.sort(dead, function(one, other) return one[1] < other[1] end)
  for _, each in ipairs(dead) do replay(each[2]) end
else
  for _, id in ipairs(call('ZRANGE', q.dead, 0, tonumber(ARGV[2]) - 1)) do
    replay(id)
    call('ZREM', q.dead, id)
  end
end
flush(q)
return replayed
