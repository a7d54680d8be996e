-- As `ack`, each with the record of its outcome, which is written where it is newer.
-- KEYS: queue. ARGV: window, nonce, then id, token, key, channel, payload, milliseconds. Returns the places of those
-- refused.
local call = redis.call
local base, window, nonce = KEYS[1], tonumber(ARGV[1]), ARGV[2]
local messages, claims = base .. ':messages', base .. ':claims'
local time = call('TIME')
local now, until_ = time[1] * 1e6 + time[2], tonumber(time[1]) + 1 + window
local stone = 'T' .. struct.pack('<I4', until_) .. nonce
local lost, seen = {}, {}

-- A call repeated after a lost reply finds its own mark.
local function is_repeated(id)
  local value = call('HGET', messages, id)
  return value and value:byte(1) == 84 and value:sub(6, 13) == nonce
end

local function write_record(at)
  local key, payload, ttl = ARGV[at + 2], ARGV[at + 4], tonumber(ARGV[at + 5])
  local head, version = call('GETRANGE', key, 0, 23), 0
  if head ~= '' then
    local known, _, rank = struct.unpack('<ddd', head)
    if struct.unpack('<d', payload) <= rank then return end
    version = known
  end
  version = math.max(now, version + 1)
  if ttl < 0 then
    call('SET', key, struct.pack('<dd', version, 0) .. payload)
  else
    call('SET', key, struct.pack('<dd', version, now + ttl * 1000) .. payload, 'PX', ttl)
  end
  if payload:byte(9) % 2 == 1 then call('PUBLISH', ARGV[at + 3], '') end
end

for from = 3, #ARGV, 6000 do
  local to = math.min(from + 5999, #ARGV)
  local ids, stones, count = {}, {}, 0
  for at = from, to, 6 do
    count = count + 1
    ids[count] = ARGV[at]
  end
  local states = call('HMGET', claims, unpack(ids))
  local done, last = {}, 0
  for index = 1, count do
    local id, state = ids[index], states[index]
    local at = from + index * 6 - 6
    if state and not seen[id] and state:sub(17) == ARGV[at + 1] then
      seen[id] = true
      last = last + 1
      done[last], stones[last * 2 - 1], stones[last * 2] = id, id, stone
      write_record(at)
    elseif seen[id] or state or not is_repeated(id) then
      lost[#lost + 1] = (at - 3) / 6
    end
  end
  if last > 0 then
    -- What takes away comes first: a full server refuses only scripts whose first write adds.
    call('ZREM', base .. ':leased', unpack(done))
    call('HDEL', claims, unpack(done))
    if window > 0 then
      call('HSET', messages, unpack(stones))
      call('RPUSH', base .. ':gone', until_ .. ' ' .. table.concat(done, ' '))
    else
      call('HDEL', messages, unpack(done))
    end
  end
end
return lost
