-- KEYS: queue. ARGV: ids. Returns a flat list of places and one of messages.
local q, places, shown = queue(KEYS[1]), {}, {}
if promote(q) > 0 then notify(q) end
for _, id in ipairs(ARGV) do
  local value = call('HGET', q.messages, id)
  if value and not has_left(value) then
    local name, score = find(q, id, value)
    if name then
      table.insert(places, place_of(name, score))
      show(q, id, value, shown_at(name, value, score), shown)
    end
  end
end
return {places, shown}
