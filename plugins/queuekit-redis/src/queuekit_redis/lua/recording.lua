-- Records: version, end of life, rank, flags, and the rest, which only clients read. A final one is published on the
-- channel of its key. Every waiter also subscribes to the channel whose name is the prefix; without subscribers there,
-- nothing is published.
local heads, times, has_listeners = {}, {}, nil

-- The head of a record that is written now and replaces none or an older one.
local function head_of(ttl)
  local head = heads[ttl]
  if not head then
    head = pack('<dd', now, ttl < 0 and 0 or now + ttl * 1000)
    heads[ttl] = head
  end
  return head
end

-- Format each lifetime only once: the server's own conversion of numbers to text is slow.
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
  -- Ignore a missing permission to publish: waiters poll as well.
  if has_listeners then redis.pcall('PUBLISH', prefix .. rest, '') end
end

-- The head of a record; false if there is none, or the value is not a string and so foreign.
local function head_at(key)
  local head = redis.pcall('GETRANGE', key, 0, 23)
  return type(head) == 'string' and head ~= '' and head
end

-- Replaces `old` (false: none; too short: foreign) if `condition` (0 always, 1 absent, 2 newer, 3 as expected) and
-- `expect` (-1: any version) allow it.
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

-- Lists a record that was written among those of its kind, the word before the first colon of its key, so that a scan of
-- a kind does not read all keys of the server. `length`: of the prefix of records.
local function list(key, length, ttl)
  local kind = key:match('^[^:]*:', length + 1)
  if not kind or kind == 'result:' then return end
  local listed = key:sub(1, length - 7) .. 'listed:' .. kind
  call('ZREMRANGEBYSCORE', listed, '-inf', string.format('%.0f', now - 1e6))
  call('ZADD', listed, ttl < 0 and '+inf' or string.format('%.0f', now + ttl * 1000), key:sub(length + 1))
end

local function is_final(payload)
  return payload:byte(9) % 2 == 1
end

-- Writes a record if it is newer, and publishes it if it is final.
local function write_newer(prefix, channels, rest, payload, ttl)
  local key = prefix .. rest
  if write_over(head_at(key), key, payload, tonumber(ttl), 2, -1) == 0 then return end
  list(key, #prefix, tonumber(ttl))
  if is_final(payload) then publish(channels, rest) end
end
