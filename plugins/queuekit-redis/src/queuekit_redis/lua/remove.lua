-- KEYS: queue. ARGV: prefix of unique keys, window, places separated by commas, most, then ids (none: all).
-- Returns the ids of the removed messages.
local q, removed, turns = opened(KEYS[1]), {}, {}
local unique_prefix, window, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local allowed = {}
for name in ARGV[3]:gmatch('%w+') do allowed[name] = true end

local function take_out(id)
  local value = call('HGET', q.messages, id)
  if not value or has_left(value) then return end
  local name, score = find(q, id, value)
  if not allowed[place_of(name, score)] then return end
  call('ZREM', q[name], member_in(name, id, value))
  call('HDEL', q.claims, id)
  call('HDEL', q.death_records, id)
  free_key_of(q, id, value, unique_prefix)
  leave(q, id, pack(STEP, step_of(value)), window, '--------')
  table.insert(removed, id)
  if name == 'ready' and score % SPAN >= TAGGED then
    local lane, step = lane_of(value)
    if lane then table.insert(turns, {score, level_at(score) .. lane, step}) end
  end
end

-- A lane whose last message is removed goes back to the one before: else it would wait for turns that nobody takes.
local function give_back()
  if call('EXISTS', q.ready) == 0 then
    call('DEL', q.lanes, q.turns)
    return
  end
  table.sort(turns, function(one, other) return one[1] > other[1] end)
  for _, turn in ipairs(turns) do
    if tonumber(call('ZSCORE', q.lanes, turn[2]) or 0) == turn[1] then
      call('ZADD', q.lanes, turn[1] - turn[3], turn[2])
    end
  end
end

local function first_of(name)
  if name ~= 'delayed' then return call('ZRANGE', q[name], 0, most - 1) end
  return call('ZRANGEBYSCORE', q.delayed, string.format('(%.0f', now), '+inf', 'LIMIT', 0, most)
end

if #ARGV > 4 then
  for at = 5, #ARGV do take_out(ARGV[at]) end
else
  if allowed.ready and promote(q) > 0 then notify(q) end
  for name in pairs(allowed) do
    for _, member in ipairs(first_of(name)) do
      local id = name == 'delayed' and member:sub(2) or member
      take_out(id)
      -- A member without a message is a leftover: remove it, so that it is not found again.
      call('ZREM', q[name], member)
    end
  end
end
if #turns > 0 then give_back() end
flush(q)
return removed
