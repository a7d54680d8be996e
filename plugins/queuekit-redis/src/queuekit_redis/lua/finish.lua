-- Like `ack`, with a record for each message, which is written if it is newer.
-- KEYS: queue. ARGV: window, nonce, prefixes of records and channels, prefix of the records' keys before the id,
-- milliseconds, then per message id, token, payload of its record. Returns the indexes of those refused.
local channels, kind, ttl = ARGV[4], ARGV[5], tonumber(ARGV[6])
local records = ARGV[3] .. kind

-- Usually each record replaces a small PENDING one, so it is cheapest to read all of them as a whole.
local function write(places)
  local keys = {}
  for index = 1, #places do keys[index] = records .. ARGV[places[index]] end
  local olds = call('MGET', unpack(keys))
  for index = 1, #places do
    local at = places[index]
    local payload = ARGV[at + 2]
    local done = write_over(olds[index], keys[index], payload, ttl, 2, -1)
    if done == 1 and has_listeners ~= false and is_final(payload) then publish(channels, kind .. ARGV[at]) end
  end
end

return settle_plain(7, 3, write)
