-- KEYS: group. ARGV: member, milliseconds. Returns whether it is new, and how many there are.
local first, count = count_in(KEYS[1], ARGV[1], ARGV[2])
return {first, count}
