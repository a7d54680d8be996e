-- KEYS: queue. ARGV: prefix of unique keys, window, nonce, then settlements. Returns the indexes of those refused.
local q, lost, at, index = opened(KEYS[1]), {}, 4, 0
local ctx = {unique_prefix = ARGV[1], window = tonumber(ARGV[2]), nonce = ARGV[3]}
while at <= #ARGV do
  local done
  at, done = settle(q, at, ctx)
  if not done then table.insert(lost, index) end
  index = index + 1
end
flush_all()
return lost
