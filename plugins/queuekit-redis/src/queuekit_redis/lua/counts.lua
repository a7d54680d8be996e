-- KEYS: queue. Returns ready, delayed, leased, dead, and the age of the oldest ready message (empty: none).
local q = queue(KEYS[1])
local due = call('ZCOUNT', q.delayed, '-inf', now)
local oldest
local function consider(at)
  if at then oldest = math.min(oldest or at, at) end
end
-- When the next message of the lanes of a level was sent: finding the oldest one would mean to look at all lanes.
local function sent_at(q, level)
  local from = (9 - level) * SPAN
  local id = call('ZRANGEBYSCORE', q.ready, from, from + SPAN - 1, 'LIMIT', 0, 1)[1]
  local _, sent = unpack_from(MESSAGE, whole(call('HGET', q.messages, id)))
  return sent
end
-- The first message of each level that has one. The next level begins at a multiple of SPAN.
local from = 0
repeat
  local head = call('ZRANGEBYSCORE', q.ready, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if head then
    local step = math.floor(tonumber(head) / SPAN)
    consider(is_in_lane(tonumber(head)) and sent_at(q, 9 - step) or due_at(tonumber(head)))
    from = (step + 1) * SPAN
  end
until not head
if due > 0 then consider(tonumber(call('ZRANGE', q.delayed, 0, 0, 'WITHSCORES')[2])) end
return {
  call('ZCARD', q.ready) + due, call('ZCARD', q.delayed) - due, call('ZCARD', q.leased), call('ZCARD', q.dead),
  oldest and string.format('%.0f', math.max(0, now - oldest)) or '',
}
