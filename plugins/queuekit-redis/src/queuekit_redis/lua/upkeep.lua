-- Upkeep in bounded steps: promote due messages, reclaim expired leases, forget old ids.
local function promote(q)
  local due = call('ZRANGEBYSCORE', q.delayed, '-inf', now, 'WITHSCORES', 'LIMIT', 0, MOST)
  if #due == 0 then return 0 end
  local members, ready = {}, {}
  for at = 1, #due, 2 do
    local member, id = due[at], due[at]:sub(2)
    local level, lane, step = (member:byte(1) or 52) - 48
    if level > 9 then
      lane, step = lane_of(call('HGET', q.messages, id))
      level = level - 49
    end
    level = math.min(math.max(level, 0), 9)
    table.insert(members, member)
    table.insert(ready, lane and place_in_lane(q, level, lane, step) or place(level, tonumber(due[at + 1])))
    table.insert(ready, id)
  end
  bulk('ZREM', q.delayed, members)
  bulk('ZADD', q.ready, ready)
  flush_lanes(q)
  return #members
end

local function reclaim(q)
  local ids = call('ZRANGEBYSCORE', q.leased, '-inf', now, 'LIMIT', 0, MOST)
  if #ids == 0 then return 0 end
  local states = call('HMGET', q.claims, unpack(ids))
  local ready, claims = {}, {}
  for at, id in ipairs(ids) do
    local state = states[at]
    if state then
      local number, crashes, score = claim_of(state)
      table.insert(claims, id)
      table.insert(claims, pack(CLAIM, number, crashes + 1, score))
      table.insert(ready, place_back(score))
      table.insert(ready, id)
    end
  end
  bulk('ZREM', q.leased, ids)
  if #ready > 0 then
    bulk('HSET', q.claims, claims)
    bulk('ZADD', q.ready, ready)
  end
  return #ids
end

-- Forgets ids whose time is over, unless they were sent again or remembered anew.
local function forget(q)
  for _ = 1, 20 do
    local oldest = call('LINDEX', q.gone, 0)
    if not oldest or tonumber(oldest:match('^%d+') or 0) * 1e6 > now then return 0 end
    call('LPOP', q.gone)
    local ids, over = {}, {}
    for id in oldest:gmatch(' (%S+)') do table.insert(ids, id) end
    for from = 1, #ids, MOST do
      local part = {unpack(ids, from, math.min(from + MOST - 1, #ids))}
      for at, value in ipairs(call('HMGET', q.messages, unpack(part))) do
        if value and has_left(value) and unpack_from('<I4', value, 2) * 1e6 <= now then
          table.insert(over, part[at])
        end
      end
    end
    if #over > 0 then bulk('HDEL', q.messages, over) end
  end
  return 1
end

local function discard_dead(q, ids)
  if #ids == 0 then return end
  bulk('ZREM', q.dead, ids)
  bulk('HDEL', q.messages, ids)
  bulk('HDEL', q.claims, ids)
  bulk('HDEL', q.death_records, ids)
  call('INCRBY', q.base .. ':discarded', #ids)
end

-- Discards dead letters beyond the configured limits, and counts them.
local function bound_dead(q, oldest, most)
  if oldest > 0 then
    discard_dead(q, call('ZRANGEBYSCORE', q.dead, '-inf', now - oldest, 'LIMIT', 0, MOST))
  end
  if most >= 0 then
    local over = call('ZCARD', q.dead) - most
    if over > 0 then discard_dead(q, call('ZRANGE', q.dead, 0, math.min(over, MOST) - 1)) end
  end
end

-- The time at which the next delayed message is due or the next lease ends, or nil.
local function next_event(q)
  local due = call('ZRANGE', q.delayed, 0, 0, 'WITHSCORES')[2]
  local ends = call('ZRANGE', q.leased, 0, 0, 'WITHSCORES')[2]
  due, ends = tonumber(due), tonumber(ends)
  if due and ends then return math.min(due, ends) end
  return due or ends
end
