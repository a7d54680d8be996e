-- Lanes take turns: each ready message of a lane has a tag, by which the messages of a priority are sorted.
--   tag = max(tag of the lane's last message, time of all lanes) + 1 / weight, in units of TURN
-- <queue>:lanes holds the last tag of each lane until the time of all lanes passes it, as the score of level and lane.
-- <queue>:turns holds that time by level, and the last tag of a new lane by level and step: the next one gets a later
-- tag, so that new lanes keep their order. Both keys go when no message is ready.
--
-- In the set of ready messages, a message with a tag is behind those without a lane. One that comes back after a claim
-- is before all with a tag: it has had its turn. There are tags for ten thousand million turns; the count begins anew
-- whenever no message is ready.
local HAS_LANE, TURN, TAGGED = 8, 10000, 8e14

-- The lane of a stored message and its step, in units of TURN; nil if it has none.
local function lane_of(value)
  local flags = value and value:byte(11) or 0
  if bit.band(flags, HAS_LANE) == 0 or value:byte(1) ~= 77 then return nil end
  local at = 24
  if bit.band(flags, HAS_EXPIRES) ~= 0 then at = at + 8 end
  if bit.band(flags, HAS_NOT_BEFORE) ~= 0 then at = at + 8 end
  if bit.band(flags, HAS_UNIQUE) ~= 0 then
    if #value < at + 10 then return nil end
    local _, _, length = unpack_from('<BdI2', value, at)
    at = at + 11 + length
  end
  if #value < at + 9 then return nil end
  local weight, length, from = unpack_from('<dI2', value, at)
  if not (weight > 0 and weight < 1e9) then return nil end
  return value:sub(from, from + length - 1), math.max(1, math.floor(TURN / weight + 0.5))
end

-- The first character of a member of the delayed messages: its level, as a letter if it has a lane.
local function delayed_as(level, lane)
  return lane and string.char(97 + level) or tostring(level)
end

-- The member of a place's sorted set that stands for a message.
local function member_in(place_name, id, value)
  if place_name ~= 'delayed' then return id end
  return delayed_as(level_of(value), lane_of(value)) .. id
end

-- The score of a message that becomes ready in its lane.
local function place_in_lane(q, level, lane, step)
  local floor = (9 - level) * SPAN + TAGGED
  if not q.tails then q.tails, q.turn_of = {}, {} end
  local function turn(field)
    q.turn_of[field] = q.turn_of[field] or tonumber(call('HGET', q.turns, field) or 0) or 0
    return q.turn_of[field]
  end
  local name, start = level .. lane, floor + turn(tostring(level))
  local tag = (q.tails[name] or tonumber(call('ZSCORE', q.lanes, name) or 0) or 0) + step
  if tag <= start + step then
    local first = level .. ':' .. step
    tag = math.max(start + step, floor + turn(first) + 1)
    q.turn_of[first] = tag - floor
  end
  q.tails[name] = math.min(tag, floor + SPAN - TAGGED - 1)
  return q.tails[name]
end

-- Stores the last tags of the lanes that messages have entered.
local function flush_lanes(q)
  if not q.tails then return end
  local entries, turns = {}, {}
  for field, at in pairs(q.turn_of) do
    if field:find(':') then
      table.insert(turns, field)
      table.insert(turns, string.format('%.0f', at))
    end
  end
  if #turns > 0 then bulk('HSET', q.turns, turns) end
  for name, tail in pairs(q.tails) do
    table.insert(entries, tail)
    table.insert(entries, name)
  end
  if #entries > 0 then bulk('ZADD', q.lanes, entries) end
  q.tails = nil
end

-- The score at which a claimed message comes back.
local function place_back(score)
  local position = score % SPAN
  if position < TAGGED then return score end
  return score - position + LANES + math.floor((position - TAGGED) / 10)
end

-- Whether a score is one of a message with a lane.
local function is_in_lane(score)
  return score % SPAN >= LANES
end

-- Moves the time of all lanes on to where the share of a claimed message began, but at most one turn before its tag, so
-- that a light lane does not hold the others back.
local function move_on(q, value, score)
  if score % SPAN < TAGGED then return end
  local _, step = lane_of(value)
  local level = level_at(score)
  q.passed = q.passed or {}
  q.passed[level] = math.max(q.passed[level] or 0, score % SPAN - TAGGED - math.min(step or TURN, TURN))
end

-- Stores the time of all lanes after a claim, and forgets the lanes whose last tags it has passed.
local function flush_times(q)
  for level, time in pairs(q.passed or {}) do
    local known = tonumber(call('HGET', q.turns, level) or 0) or 0
    if time > known then
      call('HSET', q.turns, level, string.format('%.0f', time))
      local floor = (9 - level) * SPAN
      call('ZREMRANGEBYSCORE', q.lanes, floor, floor + TAGGED + time)
    end
  end
  q.passed = nil
end
