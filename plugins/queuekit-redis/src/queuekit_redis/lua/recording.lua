-- Records: version, end of life, rank, flags, and the rest, which only clients read. A final one is published on the
-- channel of its key. Every waiter also listens on the channel whose name is the prefix, so that nothing is published
-- without listeners.
local heads, times, has_listeners = {}, {}, nil

-- What a record begins with that is written now, over none or an older one.
local function head_of(ttl)
  local head = heads[ttl]
  if not head then
    head = pack('<dd', now, ttl < 0 and 0 or now + ttl * 1000)
    heads[ttl] = head
  end
  return head
end

-- Spelt once: the server writes each number that it is given as text, and with care.
local function store(key, value, ttl)
  if ttl < 0 then
    call('SET', key, value)
  else
    local text = times[ttl]
    if not text then
      text = string.format('%.0f', ttl)
      times[ttl] = text
    end
    call('PSETEX', key, text, value)
  end
end

local function publish(prefix, rest)
  if has_listeners == nil then
    local reply = redis.pcall('PUBSUB', 'NUMSUB', prefix)
    has_listeners = reply.err ~= nil or reply[2] > 0
  end
  -- A user that may not publish finishes all the same: waiters poll as well.
  if has_listeners then redis.pcall('PUBLISH', prefix .. rest, '') end
end

-- As much of a record as its writers need; false if there is none, or a foreign value that is not a string.
local function head_at(key)
  local head = redis.pcall('GETRANGE', key, 0, 23)
  return type(head) == 'string' and head ~= '' and head
end

-- Writes over `old` (false: there is none; too short: not of ours) what may be written. condition: 0 always, 1 absent, 2 newer, 3 as expected;
-- expect: -1 for any version.
local function write_over(old, key, payload, ttl, condition, expect)
  local version, head = 0, nil
  if old and #old >= 24 then
    local known, _, rank = unpack_from('<ddd', old)
    if condition == 1 or (condition == 2 and unpack_from('<d', payload) <= rank) then return 0 end
    version = known
  end
  if expect >= 0 and expect ~= version then return 0 end
  if version >= now then
    head = pack('<dd', version + 1, ttl < 0 and 0 or now + ttl * 1000)
  else
    head = head_of(ttl)
  end
  store(key, head .. payload, ttl)
  return 1
end

local function is_final(payload)
  return payload:byte(9) % 2 == 1
end

-- Writes a record where it is newer, and publishes it if it is final.
local function write_newer(prefix, channels, rest, payload, ttl)
  local key = prefix .. rest
  local done = write_over(head_at(key), key, payload, tonumber(ttl), 2, -1)
  if done == 1 and is_final(payload) then publish(channels, rest) end
end
