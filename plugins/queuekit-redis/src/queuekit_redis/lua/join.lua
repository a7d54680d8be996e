-- KEYS: group. ARGV: member, milliseconds. Returns whether the member is new, and the number of members.
local first, count = count_in(KEYS[1], ARGV[1], ARGV[2])
return {first, count}
