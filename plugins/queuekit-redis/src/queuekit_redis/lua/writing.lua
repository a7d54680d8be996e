-- Adds and removes messages; collects writes until the end, to do them in bulk.
local function opened(base)
  local q = queue(base)
  if not q.seen then
    q.seen, q.unleased, q.unclaimed, q.claimed, q.stored, q.to_ready, q.to_delayed, q.left = {}, {}, {}, {}, {}, {}, {}, {}
  end
  return q
end

-- `lane` and `step`: of a message with a lane; for one that is not due, any lane will do.
local function schedule(q, id, level, due, lane, step)
  if due > now then
    q.soonest = math.min(q.soonest or due, due)
    table.insert(q.to_delayed, math.min(due, LATEST))
    table.insert(q.to_delayed, delayed_as(level, lane) .. id)
  else
    table.insert(q.to_ready, lane and place_in_lane(q, level, lane, step) or place(level, tick(q)))
    table.insert(q.to_ready, id)
  end
end

local function flush_delayed(q)
  local head = call('ZRANGE', q.delayed, 0, 0, 'WITHSCORES')[2]
  bulk('ZADD', q.delayed, q.to_delayed)
  return not head or q.soonest < tonumber(head)
end

-- Applies the collected writes. Removals come first: a full server refuses only scripts whose first write adds data, so
-- it still accepts acknowledgements.
local function flush(q)
  local wake = #q.to_ready > 0
  if #q.unleased > 0 then bulk('ZREM', q.leased, q.unleased) end
  if #q.unclaimed > 0 then bulk('HDEL', q.claims, q.unclaimed) end
  if #q.claimed > 0 then bulk('HSET', q.claims, q.claimed) end
  if #q.stored > 0 then bulk('HSET', q.messages, q.stored) end
  if #q.to_ready > 0 then bulk('ZADD', q.ready, q.to_ready) end
  flush_lanes(q)
  if #q.to_delayed > 0 then wake = flush_delayed(q) or wake end
  if #q.left > 0 then
    call('RPUSH', q.gone, string.format('%.0f ', q.forget) .. table.concat(q.left, ' '))
  end
  if q.last then
    call('SET', q.clock, string.format('%.0f', q.last))
  end
  if wake then notify(q) end
  q.unleased, q.unclaimed, q.claimed, q.stored, q.to_ready, q.to_delayed, q.left = {}, {}, {}, {}, {}, {}, {}
  q.soonest = nil
end

local function flush_all()
  for _, q in pairs(queues) do flush(q) end
end

-- Generation, attempt and hop of a stored message or tombstone.
local function step_of(value)
  if value:byte(1) == 77 and #value >= HEADER then
    local _, _, _, _, generation, attempt, hop = unpack_from(MESSAGE, value)
    return generation, attempt, hop
  end
  if #value < 25 then return 0, 0, 0 end
  return unpack_from(STEP, value, 14)
end

local function is_known(value, blob)
  if has_left(value) and unpack_from('<I4', value, 2) * 1e6 <= now then return false end
  local generation, attempt, hop = step_of(value)
  local _, _, new_generation, new_attempt, new_hop = unpack_from('<bBI4I4I4', blob)
  if new_generation ~= generation then return new_generation < generation end
  if new_attempt ~= attempt then return new_attempt < attempt end
  return new_hop <= hop
end

local function tombstone(until_, nonce, step)
  return 'T' .. pack('<I4', until_) .. nonce .. step
end

-- Removes a message; its id is remembered for `window` seconds.
local function leave(q, id, step, window, nonce)
  q.forget = math.ceil(now / 1e6) + window
  if window > 0 then
    table.insert(q.stored, id)
    table.insert(q.stored, tombstone(q.forget, nonce, step))
    table.insert(q.left, id)
  else
    call('HDEL', q.messages, id)
  end
end

-- Removes an earlier step of a message from its place, to make room for a later one.
local function evict(q, id, value, unique_prefix)
  flush(q)
  call('ZREM', q.ready, id)
  call('ZREM', q.leased, id)
  call('ZREM', q.dead, id)
  call('ZREM', q.delayed, member_in('delayed', id, value))
  call('HDEL', q.claims, id)
  call('HDEL', q.death_records, id)
  q.seen[id] = nil
  free_key_of(q, id, value, unique_prefix)
end

local function due_of(q, due)
  if due == '' then return 0 end
  local delay, not_before = unpack_from('<dd', due)
  if delay <= 0 then return not_before end
  local from = tick(q)
  -- After the server's clock was set back, positions are ahead of it and do not measure time.
  if from - now > 1e6 then from = now end
  return math.max(from + delay, not_before)
end

-- Puts a message on its queue; returns the id of another message that holds its unique key, or nil.
local function accept(q, id, blob, due, key, unique_prefix, sent)
  local value = 'M' .. (sent or pack('<d', now)) .. blob
  local stored
  if key ~= '' then
    stored = call('HGET', q.messages, id)
    if stored and is_known(stored, blob) then return nil end
    local me = q.base .. '\0' .. id
    local holder = call('GET', unique_prefix .. key)
    if holder and holder ~= me then return holder:match('%z(.*)$') end
    if stored and not has_left(stored) then evict(q, id, stored, unique_prefix) end
    local _, _, ttl = unique_of(value)
    call('SET', unique_prefix .. key, me, 'PX', math.max(1, math.floor(math.min(ttl, 1e9) * 1000)))
    call('HSET', q.messages, id, value)
  elseif call('HSETNX', q.messages, id, value) == 0 then
    flush(q)
    stored = call('HGET', q.messages, id)
    if is_known(stored, blob) then return nil end
    if not has_left(stored) then evict(q, id, stored, unique_prefix) end
    call('HSET', q.messages, id, value)
  end
  schedule(q, id, math.min(math.max(unpack_from('<b', blob), 0), 9), due_of(q, due), lane_of(value))
  return nil
end
