-- Acknowledgements of messages at their first attempt and without unique key, the usual case: all in bulk.
-- KEYS: queue. ARGV: window, nonce, then ids and tokens. Returns the places of those refused.
local call = redis.call
local base, window, nonce = KEYS[1], tonumber(ARGV[1]), ARGV[2]
local messages, claims = base .. ':messages', base .. ':claims'
local until_ = tonumber(call('TIME')[1]) + 1 + window
local stone = 'T' .. struct.pack('<I4', until_) .. nonce
local lost, seen = {}, {}

-- A call repeated after a lost reply finds its own mark.
local function is_repeated(id)
  local value = call('HGET', messages, id)
  return value and value:byte(1) == 84 and value:sub(6, 13) == nonce
end

for from = 3, #ARGV, 2000 do
  local to = math.min(from + 1999, #ARGV)
  local ids, stones, count = {}, {}, 0
  for at = from, to, 2 do
    count = count + 1
    ids[count] = ARGV[at]
  end
  local states = call('HMGET', claims, unpack(ids))
  local done, last = {}, 0
  for index = 1, count do
    local id, state = ids[index], states[index]
    local at = from + index * 2 - 2
    if state and not seen[id] and state:sub(17) == ARGV[at + 1] then
      seen[id] = true
      last = last + 1
      done[last], stones[last * 2 - 1], stones[last * 2] = id, id, stone
    elseif seen[id] or state or not is_repeated(id) then
      lost[#lost + 1] = (at - 3) / 2
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
