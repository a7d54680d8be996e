-- KEYS: queue. ARGV: prefix of unique keys, then per message id, blob, due, unique key.
-- Returns whether the queue is new, then, for each message not sent, its index and the id that holds its key.
local q = opened(KEYS[1])
local unique_prefix = ARGV[1]
q.last = tonumber(call('GET', q.clock) or 0) or 0
local answer = {q.last == 0 and 1 or 0}
-- Even if nothing here takes a position: the queue is new only once.
if q.last == 0 then tick(q) end
for at = 2, #ARGV, 4 do
  local holder = accept(q, ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], unique_prefix)
  if holder then
    table.insert(answer, (at - 2) / 4)
    table.insert(answer, holder)
  end
end
flush(q)
return answer
