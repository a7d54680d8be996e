-- Applies one settlement. Each kind reads its own arguments; all return the index behind them, and whether the lease
-- was held. `ctx` holds window, nonce and unique_prefix.

-- A call that is repeated after a lost reply has the same nonce, so its own work does not count as a lost lease.
local function is_repeated(q, id, state, nonce)
  if state then return state:sub(17) == '~' .. nonce end
  local value = call('HGET', q.messages, id)
  return value and value:byte(1) == 84 and value:sub(6, 13) == nonce
end

local function held(q, id, token)
  local state = q.seen[id]
  if state == nil then
    state = call('HGET', q.claims, id)
    q.seen[id] = state
  end
  if state and token ~= '' and state:sub(17) == token then return state end
  return nil
end

-- Existing members are removed at the end, with all other writes, so that an error in the script leaves nothing half
-- done.
local has_begun = false
local function unlease(q, id)
  if not has_begun then take_nothing(q) end
  has_begun = true
  table.insert(q.unleased, id)
  q.seen[id] = false
end

local function keep_claim(q, id, state, ctx)
  table.insert(q.claimed, id)
  table.insert(q.claimed, state .. '~' .. ctx.nonce)
  q.seen[id] = state .. '~' .. ctx.nonce
end

-- id, token, step, unique key
local function ack(q, at, ctx)
  local id, key = ARGV[at], ARGV[at + 3]
  if ctx.skip then return at + 4, false end
  if not held(q, id, ARGV[at + 1]) then return at + 4, false, id end
  unlease(q, id)
  table.insert(q.unclaimed, id)
  leave(q, id, ARGV[at + 2], ctx.window, ctx.nonce)
  if key ~= '' then free_key(q, id, ctx.unique_prefix .. key) end
  return at + 4, true
end

-- id, token, delay, counted
local function release(q, at, ctx)
  local id, delay, counted = ARGV[at], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  if ctx.skip then return at + 4, false end
  local state = held(q, id, ARGV[at + 1])
  if not state then return at + 4, false, id end
  local number, crashes, score = claim_of(state)
  unlease(q, id)
  keep_claim(q, id, pack(CLAIM, number, crashes + counted, score), ctx)
  if delay > 0 then
    schedule(q, id, level_at(score), now + delay, is_in_lane(score))
  else
    table.insert(q.to_ready, place_back(score))
    table.insert(q.to_ready, id)
  end
  return at + 4, true
end

-- id, token, step, unique key, queue (empty: the same), blob, due, sent
local function retry(q, at, ctx)
  local id, key, base, blob, due, sent = ARGV[at], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
  if ctx.skip then return at + 8, false end
  local state = held(q, id, ARGV[at + 1])
  if not state then return at + 8, false, id end
  unlease(q, id)
  if base ~= '' then
    table.insert(q.unclaimed, id)
    leave(q, id, ARGV[at + 2], ctx.window, ctx.nonce)
    if key ~= '' and call('GET', ctx.unique_prefix .. key) == q.base .. '\0' .. id then
      call('SET', ctx.unique_prefix .. key, base .. '\0' .. id, 'KEEPTTL')
    end
    accept(opened(base), id, blob, due, '', ctx.unique_prefix, sent)
    return at + 8, true
  end
  local number = claim_of(state)
  keep_claim(q, id, pack(CLAIM, number, 0, 0), ctx)
  table.insert(q.stored, id)
  table.insert(q.stored, 'M' .. sent .. blob)
  local level = math.min(math.max(unpack_from('<b', blob), 0), 9)
  schedule(q, id, level, due_of(q, due), lane_of('M' .. sent .. blob))
  return at + 8, true
end

-- id, token, unique key, reason and the like
local function dead_letter(q, at, ctx)
  local id, key = ARGV[at], ARGV[at + 2]
  if ctx.skip then return at + 4, false end
  local state = held(q, id, ARGV[at + 1])
  if not state then return at + 4, false, id end
  flush(q)
  call('ZREM', q.leased, id)
  call('ZADD', q.dead, tick(q), id)
  call('HSET', q.death_records, id, ARGV[at + 3])
  if key ~= '' then free_key(q, id, ctx.unique_prefix .. key) end
  keep_claim(q, id, state:sub(1, 16), ctx)
  return at + 4, true
end

local KINDS = {a = ack, r = release, y = retry, d = dead_letter}

-- Applies the settlement whose kind is at `at`; returns the index behind it, whether it was done, and whether it was
-- done by an earlier try.
local function settle(q, at, ctx)
  local behind, done, id = KINDS[ARGV[at]](q, at + 1, ctx)
  if not done and id and is_repeated(q, id, q.seen[id], ctx.nonce) then return behind, true, true end
  return behind, done, false
end
