-- Counts a member into a group. Returns whether the member is new, and the number of members.
local function count_in(key, member, ttl)
  local first = call('SADD', key, member)
  call('PEXPIRE', key, ttl)
  return first, call('SCARD', key)
end
