-- KEYS: queues. ARGV: limit, lease, token, prefix of unique keys, most bytes, most age and number of dead letters,
-- prefix of marks (empty: do not check), time after which the caller has given up (0: never).
-- Returns now, microseconds until the next event (-1: none), the number of marked messages,
-- and per queue two flat lists: id and message; and index, number and crashes of those that were claimed before.
local limit, lease, token, unique_prefix = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local bytes, oldest_dead, most_dead, marks = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
local count, ends, marked, latest = 0, now + lease, 0, tonumber(ARGV[9])
local byte, find = string.byte, string.find

-- Counts the marks of messages, and of the workflows that they are parts of: an id begins with that of its workflow.
local function count_marks(claims)
  local keys, workflows = {}, {}
  for at = 1, #claims, 2 do
    local id = claims[at]
    local dot = find(id, '.', 1, true)
    keys[#keys + 1] = marks .. id
    if dot then workflows[id:sub(1, dot - 1)] = true end
  end
  for workflow in pairs(workflows) do keys[#keys + 1] = marks .. workflow end
  marked = marked + call('EXISTS', unpack(keys))
end

-- A message has an entry in `claims` from its first claim to its end. If all entries are leased, no ready message was
-- claimed before.
local function is_fresh(q)
  return call('HLEN', q.claims) == call('ZCARD', q.leased)
end

-- Stores a foreign value as a message; returns nil for a tombstone.
local function made_whole(q, id, value)
  if value and has_left(value) then return nil end
  value = whole(value)
  call('HSET', q.messages, id, value)
  return value
end

local function hand_out(q, taken, again, popped, fresh)
  local ids, leases, claims, last, kept = {}, {}, {}, #taken, 0
  for at = 1, #popped, 2 do ids[(at + 1) / 2] = popped[at] end
  local values, states = call('HMGET', q.messages, unpack(ids)), {}
  if not fresh then states = call('HMGET', q.claims, unpack(ids)) end
  for at = 1, #ids do
    local id, value = ids[at], values[at]
    if not value or byte(value) ~= 77 or #value < HEADER then value = made_whole(q, id, value) end
    if value then
      local number, crashes, state = 0, 0, states[at]
      if state then
        number, crashes = claim_of(state)
        local behind = #again
        again[behind + 1], again[behind + 2], again[behind + 3] = last / 2, number + 1, crashes
      end
      kept = kept + 2
      claims[kept - 1], claims[kept] = id, pack(CLAIM, number + 1, crashes, popped[at * 2]) .. token .. count
      leases[kept - 1], leases[kept] = ends, id
      if byte(value, 11) >= HAS_LANE then move_on(q, value, tonumber(popped[at * 2])) end
      if bit.band(byte(value, 11), HAS_UNIQUE) ~= 0 then
        local key, until_ = unique_of(value)
        if until_ == UNTIL_START then free_key(q, id, unique_prefix .. key) end
      end
      taken[last + 1], taken[last + 2] = id, value
      last = last + 2
      count = count + 1
      bytes = bytes - #value
    end
  end
  if kept > 0 then
    bulk('HSET', q.claims, claims)
    bulk('ZADD', q.leased, leases)
    if marks ~= '' then count_marks(claims) end
  end
end

-- Whether there is nothing to hand out and no upkeep to do, which one command tells while a worker is idle.
local function is_idle(q)
  local dead = (oldest_dead > 0 or most_dead >= 0) and q.dead or q.ready
  return call('EXISTS', q.ready, q.delayed, q.leased, q.gone, q.notifier, q.lanes, dead) == 0
end

local function claim_from(q, taken, again)
  local promoted, reclaimed, forgotten = promote(q), reclaim(q), forget(q)
  if oldest_dead > 0 or most_dead >= 0 then bound_dead(q, oldest_dead, most_dead) end
  local fresh = is_fresh(q)
  while count < limit and bytes > 0 do
    local popped = call('ZPOPMIN', q.ready, math.min(limit - count, 100))
    if #popped == 0 then break end
    hand_out(q, taken, again, popped, fresh)
  end
  if q.passed then flush_times(q) end
  local more = call('EXISTS', q.ready) == 1
  if more then
    notify(q)
  elseif count > 0 then
    call('DEL', q.notifier)
  elseif limit > 0 then
    call('DEL', q.notifier, q.lanes, q.turns)
  end
  if more and count > 0 or promoted == MOST or reclaimed == MOST or forgotten == 1 then return now end
  return next_event(q)
end

local answer, soonest = {0, -1, 0}, nil
-- Messages claimed after the caller has given up would be blocked until their lease ends.
if latest > 0 and now > latest then limit, soonest = 0, now end
for index, base in ipairs(KEYS) do
  -- On a Cluster, one more key is declared, so that a node refuses the script while the slot moves.
  if base:sub(-1) ~= '}' then break end
  local q, taken, again = queue(base), {}, {}
  if not is_idle(q) then
    local event = claim_from(q, taken, again)
    if event then soonest = math.min(soonest or event, event) end
  end
  answer[index * 2 + 2], answer[index * 2 + 3] = taken, again
end
answer[1], answer[3] = string.format('%.0f', now), marked
if soonest then answer[2] = math.max(0, math.ceil(soonest - now)) end
return answer
