-- As `ack`, each with the record of its outcome, which is written where it is newer.
-- KEYS: queue. ARGV: window, nonce, prefixes of records and channels, then per message id, token, and of its record the
-- rest of its key, payload, milliseconds. Returns the places of those refused.
local records, channels, written = ARGV[3], ARGV[4], {}

-- The usual record is written over one that says PENDING, so that reading all of them whole costs least.
local function write(places)
  local keys = {}
  for index, at in ipairs(places) do keys[index] = records .. ARGV[at + 2] end
  local olds = call('MGET', unpack(keys))
  for index, at in ipairs(places) do
    local key, payload = keys[index], ARGV[at + 3]
    local old = olds[index]
    if written[key] then old = head_at(key) end
    written[key] = true
    if write_over(old, key, payload, tonumber(ARGV[at + 4]), 2, -1) == 1 and is_final(payload) then
      tell(channels, ARGV[at + 2])
    end
  end
end

return let_go(5, 5, write)
