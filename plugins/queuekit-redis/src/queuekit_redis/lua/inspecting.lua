-- Adds a message to a reply: id, message, number, crashes, time of its place, death record.
local function show(q, id, value, score, shown)
  local number, crashes, last = 0, 0, #shown
  local state = call('HGET', q.claims, id)
  if state then number, crashes = claim_of(state) end
  shown[last + 1], shown[last + 2], shown[last + 3], shown[last + 4] = id, value, number, crashes
  shown[last + 5], shown[last + 6] = string.format('%.0f', score), call('HGET', q.death_records, id) or ''
end

-- The time to show for a message: of a ready one when it became due or, if its place is by its lane, when it was sent.
local function shown_at(name, value, score)
  if name ~= 'ready' then return score end
  if not is_in_lane(score) then return due_at(score) end
  local _, sent = unpack_from(MESSAGE, whole(value))
  return sent
end

-- The place of a message in a sorted set: a due message is ready even before it is promoted.
local function place_of(name, score)
  return name == 'delayed' and score <= now and 'ready' or name
end

-- The sorted set that holds a message, and its score there.
local function find(q, id, value)
  for _, name in ipairs({'ready', 'delayed', 'leased', 'dead'}) do
    local score = call('ZSCORE', q[name], member_in(name, id, value))
    if score then return name, tonumber(score) end
  end
  return nil
end
