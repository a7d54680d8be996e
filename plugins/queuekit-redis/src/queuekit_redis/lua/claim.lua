-- KEYS: queues. ARGV: limit, lease, token, prefix of unique keys, most bytes, oldest and most dead letters.
-- Returns now, microseconds until something happens by itself (-1: nothing will), and per queue a flat list of
-- id, message, number, crashes.
local limit, lease, token, unique_prefix = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local bytes, oldest_dead, most_dead = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local count, ends = 0, now + lease

local function hand_out(q, taken, popped)
  local ids, leases, claims, last, kept = {}, {}, {}, #taken, 0
  for at = 1, #popped, 2 do ids[(at + 1) / 2] = popped[at] end
  local values, states = call('HMGET', q.messages, unpack(ids)), call('HMGET', q.claims, unpack(ids))
  for at, id in ipairs(ids) do
    local value = values[at]
    -- Without its message an id is a leftover of somebody's FLUSH or eviction: it is dropped by not being kept.
    if value and value:byte(1) == 77 then
      local number, crashes = 0, 0
      if states[at] then number, crashes = unpack_from(CLAIM, states[at]) end
      kept = kept + 2
      claims[kept - 1], claims[kept] = id, pack(CLAIM, number + 1, crashes, popped[at * 2]) .. token .. count
      leases[kept - 1], leases[kept] = ends, id
      if bit.band(value:byte(11), HAS_UNIQUE) ~= 0 then
        local key, until_ = unique_of(value)
        if until_ == UNTIL_START then free_key(q, id, unique_prefix .. key) end
      end
      taken[last + 1], taken[last + 2], taken[last + 3], taken[last + 4] = id, value, number + 1, crashes
      last = last + 4
      count = count + 1
      bytes = bytes - #value
    end
  end
  if kept > 0 then
    bulk('HSET', q.claims, claims)
    bulk('ZADD', q.leased, leases)
  end
end

local answer, soonest = {0, -1}, nil
for index, base in ipairs(KEYS) do
  local q, taken = queue(base), {}
  local promoted, reclaimed, forgotten = promote(q), reclaim(q), forget(q)
  if oldest_dead > 0 or most_dead >= 0 then bound_dead(q, oldest_dead, most_dead) end
  while count < limit and bytes > 0 do
    local popped = call('ZPOPMIN', q.ready, math.min(limit - count, 100))
    if #popped == 0 then break end
    hand_out(q, taken, popped)
  end
  answer[index + 2] = taken
  local more = call('EXISTS', q.ready) == 1
  if more then
    ring(q)
  elseif count == 0 and limit > 0 then
    call('DEL', q.bell)
  end
  if count == 0 then
    local event = next_event(q)
    if promoted == MOST or reclaimed == MOST or forgotten == 1 then event = now end
    if event then soonest = math.min(soonest or event, event) end
  end
end
answer[1] = string.format('%.0f', now)
if soonest then answer[2] = math.max(0, math.ceil(soonest - now)) end
return answer
