-- Records: version, end of life, rank, flags, and the rest, which only clients read.
local FINAL = 1

-- condition: 0 always, 1 absent, 2 newer; expect: -1 for any version.
local function write_record(key, channel, payload, ttl, condition, expect)
  local head = call('GETRANGE', key, 0, 23)
  local version, _, rank = 0, 0, -1
  if head ~= '' then
    version, _, rank = unpack_from('<ddd', head)
    if condition == 1 then return 0 end
    if condition == 2 and unpack_from('<d', payload) <= rank then return 0 end
  end
  if expect >= 0 and expect ~= version then return 0 end
  version = math.max(now, version + 1)
  if ttl < 0 then
    call('SET', key, pack('<dd', version, 0) .. payload)
  else
    call('SET', key, pack('<dd', version, now + ttl * 1000) .. payload, 'PX', ttl)
  end
  if bit.band(payload:byte(9), FINAL) ~= 0 then call('PUBLISH', channel, '') end
  return 1
end

-- Returns whether the member is new, and how many there are.
local function count_in(key, member, ttl)
  local first = call('SADD', key, member)
  call('PEXPIRE', key, ttl)
  return first, call('SCARD', key)
end
