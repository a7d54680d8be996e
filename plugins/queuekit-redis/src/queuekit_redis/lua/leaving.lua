-- Acknowledges messages at their first attempt without a unique key. ARGV: window, nonce, and from `first` on `stride`
-- arguments per message, which start with id and token. `write` gets the indexes in ARGV of those whose lease is held.
-- Returns the indexes of those refused.
local function settle_plain(first, stride, write)
  local window, nonce = tonumber(ARGV[1]), ARGV[2]
  local until_ = tonumber(time[1]) + 1 + window
  local stone = 'T' .. pack('<I4', until_) .. nonce
  local lost, seen = {}, {}

  -- A call that is repeated after a lost reply finds its own nonce.
  local function is_repeated(id)
    local value = call('HGET', messages, id)
    return value and byte(value) == 84 and sub(value, 6, 13) == nonce
  end

  for from = first, #ARGV, 1000 * stride do
    local ids, count = {}, 0
    for at = from, math.min(from + 1000 * stride - 1, #ARGV), stride do
      count = count + 1
      ids[count] = ARGV[at]
    end
    local states = call('HMGET', claims, unpack(ids))
    local done, places, stones, last, at = {}, {}, {}, 0, from
    for index = 1, count do
      local id, state = ids[index], states[index]
      if state and not seen[id] and sub(state, 17) == ARGV[at + 1] then
        seen[id] = true
        last = last + 1
        done[last], places[last], stones[last * 2 - 1], stones[last * 2] = id, at, id, stone
      elseif seen[id] or state or not is_repeated(id) then
        lost[#lost + 1] = (at - first) / stride
      end
      at = at + stride
    end
    if last > 0 then
      -- Remove first: a full server refuses only scripts whose first write adds data.
      call('ZREM', base .. ':leased', unpack(done))
      call('HDEL', claims, unpack(done))
      if window > 0 then
        call('HSET', messages, unpack(stones))
        call('RPUSH', base .. ':gone', until_ .. ' ' .. table.concat(done, ' '))
      else
        call('HDEL', messages, unpack(done))
      end
      if write then write(places) end
    end
  end
  return lost
end
