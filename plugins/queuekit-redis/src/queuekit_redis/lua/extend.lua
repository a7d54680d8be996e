-- KEYS: queue. ARGV: lease, then per message id and token. Returns the indexes of lost leases.
local q, ends, lost, kept = queue(KEYS[1]), now + tonumber(ARGV[1]), {}, {}
local shortest
for at = 2, #ARGV, 2 do
  local state = call('HGET', q.claims, ARGV[at])
  if state and state:sub(17) == ARGV[at + 1] then
    table.insert(kept, ends)
    table.insert(kept, ARGV[at])
  else
    table.insert(lost, (at - 2) / 2)
  end
end
if #kept > 0 then
  local head = call('ZRANGE', q.leased, 0, 0, 'WITHSCORES')[2]
  take_nothing(q)
  bulk('ZADD', q.leased, kept)
  -- The lease may now end earlier than waiting workers expect.
  if not head or ends < tonumber(head) then notify(q) end
end
return lost
