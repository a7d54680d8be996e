-- KEYS: queue. ARGV: place, limit, cursor ("score member" of the last one shown, or empty).
-- Returns the next cursor (empty: no more) and a flat list of messages.
local q, name, limit, shown = queue(KEYS[1]), ARGV[1], tonumber(ARGV[2]), {}
if promote(q) > 0 then notify(q) end
local latest_first = name == 'dead'
local range = latest_first and 'ZREVRANGE' or 'ZRANGE'
local from = 0
if ARGV[3] == '' then
  -- Skip due messages that are not promoted yet: they are no longer delayed.
  if name == 'delayed' then from = call('ZCOUNT', q.delayed, '-inf', now) end
else
  local score, member = ARGV[3]:match('^(%S+) (.*)$')
  local rank = call(latest_first and 'ZREVRANK' or 'ZRANK', q[name], member)
  if rank then
    from = rank + 1
  elseif latest_first then
    from = call('ZCOUNT', q[name], '(' .. score, '+inf')
  else
    from = call('ZCOUNT', q[name], '-inf', '(' .. score)
  end
end
local found = call(range, q[name], from, from + limit, 'WITHSCORES')
local cursor = ''
for at = 1, math.min(#found, limit * 2), 2 do
  local id = name == 'delayed' and found[at]:sub(2) or found[at]
  local value, score = call('HGET', q.messages, id), tonumber(found[at + 1])
  if value then show(q, id, value, shown_at(name, value, score), shown) end
  if #found > limit * 2 then cursor = found[at + 1] .. ' ' .. found[at] end
end
return {cursor, shown}
