-- The start of most scripts. Each part costs every call some microseconds, so a script includes only what it needs.
-- Times are microseconds of the server's clock.
--
-- A message is a field of <queue>:messages: "M", the time at which it was sent, and what the client packed:
--   priority, flags, generation, attempt, hop, [expires], [not_before], [until, ttl, length, unique key],
--   [weight, length, lane], body
-- or, when it has left, a tombstone: "T", the time until which its id is remembered, the nonce of the call that settled
-- it, and generation, attempt and hop unless all are 0.
-- Four sorted sets hold its place; <queue>:claims holds its holder and the number of its claims.
local call, pack, unpack_from = redis.call, struct.pack, struct.unpack
local MESSAGE, CLAIM, STEP = '<c1dbBI4I4I4', '<I4I4d', '<I4I4I4'
local HEADER = 23
local HAS_EXPIRES, HAS_NOT_BEFORE, HAS_UNIQUE = 1, 2, 4
local UNTIL_START, UNTIL_TTL = 0, 2
-- The score of a ready message is (9 - level) * SPAN + time since EPOCH (2024), which is exact in a double. From LANES on
-- there are the positions of lanes, so the order of messages without a lane is that of their times until 2049.
local SPAN, EPOCH, LATEST, LANES = 9e14, 1704067200e6, 9e15, 7.9e14
local MOST = 1000

local function server_time()
  local parts = call('TIME')
  return tonumber(parts[1]) * 1e6 + tonumber(parts[2])
end
local now = server_time()

-- Calls `command` with many arguments, in parts that fit on Lua's stack.
local function bulk(command, key, arguments)
  local count = #arguments
  for from = 1, count, 4000 do
    call(command, key, unpack(arguments, from, math.min(from + 3999, count)))
  end
end

-- The keys of a queue.
local queues = {}
local function queue(base)
  local q = queues[base]
  if not q then
    q = {
      base = base, messages = base .. ':messages', claims = base .. ':claims', ready = base .. ':ready',
      delayed = base .. ':delayed', leased = base .. ':leased', dead = base .. ':dead',
      death_records = base .. ':death_records', gone = base .. ':gone', lanes = base .. ':lanes',
      turns = base .. ':turns', clock = base .. ':clock', notifier = base .. ':notifier',
    }
    queues[base] = q
  end
  return q
end

-- A time that is unique within the queue, so that messages of the same microsecond keep their order.
local function tick(q)
  if not q.last then
    q.last = tonumber(call('GET', q.clock) or 0) or 0
    q.is_new = q.last == 0
  end
  q.last = math.max(now, q.last + 1)
  return q.last
end

local function place(level, at)
  return (9 - level) * SPAN + math.min(math.max(at - EPOCH, 0), LANES - 1)
end

local function level_at(score)
  return 9 - math.floor(score / SPAN)
end

local function due_at(score)
  return score % SPAN + EPOCH
end

-- The level of a stored message; the lowest if it is too short.
local function level_of(value)
  local level = value:byte(10) or 0
  return level > 127 and 0 or math.min(level, 9)
end

-- Whether a stored value is the tombstone of a message that has left. Any other value is a message, perhaps a malformed
-- one.
local function has_left(value)
  return value:byte(1) == 84 and (#value == 13 or #value == 25)
end

-- A stored message with a header. Foreign bytes become the body, and the worker finds it malformed. An id without a
-- value stands for a message that was evicted or deleted, which must not go unnoticed.
local function whole(value)
  if value and value:byte(1) == 77 and #value >= HEADER then return value end
  return pack(MESSAGE, 'M', now, 4, 0, 0, 0, 0) .. (value or '')
end

-- Number, crashes and score of a claim; a foreign value counts as none.
local function claim_of(state)
  if not state or #state < 16 then return 0, 0, place(4, now) end
  return unpack_from(CLAIM, state)
end

-- A full server refuses scripts whose first write adds data. Scripts that add none first remove a member that does not
-- exist.
local function take_nothing(q)
  call('ZREM', q.leased, '')
end

-- Notifies one waiting worker, unless one was notified and has not claimed yet.
local function notify(q)
  if call('EXISTS', q.notifier) == 0 then
    take_nothing(q)
    call('RPUSH', q.notifier, '1')
  end
end
