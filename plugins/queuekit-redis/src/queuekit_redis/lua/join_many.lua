-- KEYS: group. ARGV: milliseconds, then members. Returns the number of members.
local members = {}
for at = 2, #ARGV do members[at - 1] = ARGV[at] end
bulk('SADD', KEYS[1], members)
call('PEXPIRE', KEYS[1], ARGV[1])
return call('SCARD', KEYS[1])
