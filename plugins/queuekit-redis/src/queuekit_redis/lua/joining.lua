-- Counts a member into a group. Returns whether it is new, and how many there are.
local function count_in(key, member, ttl)
  local first = call('SADD', key, member)
  call('PEXPIRE', key, ttl)
  return first, call('SCARD', key)
end
