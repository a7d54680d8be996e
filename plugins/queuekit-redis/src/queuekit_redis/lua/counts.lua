-- KEYS: queue. Returns ready, delayed, leased, dead, and the age of the oldest ready message (empty: none).
local q = queue(KEYS[1])
local due = call('ZCOUNT', q.delayed, '-inf', now)
local oldest
local function consider(at)
  if at then oldest = math.min(oldest or at, at) end
end
for level = 0, 9 do
  local from = (9 - level) * SPAN
  local head = call('ZRANGEBYSCORE', q.ready, from, from + SPAN - 1, 'WITHSCORES', 'LIMIT', 0, 1)[2]
  consider(head and due_at(tonumber(head)))
end
if due > 0 then consider(tonumber(call('ZRANGE', q.delayed, 0, 0, 'WITHSCORES')[2])) end
return {
  call('ZCARD', q.ready) + due, call('ZCARD', q.delayed) - due, call('ZCARD', q.leased), call('ZCARD', q.dead),
  oldest and string.format('%.0f', math.max(0, now - oldest)) or '',
}
