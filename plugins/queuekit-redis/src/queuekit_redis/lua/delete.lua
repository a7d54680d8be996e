-- KEYS: records. ARGV: expected version. Returns the number of deleted records.
local deleted = 0
for _, key in ipairs(KEYS) do
  local head = redis.call('GETRANGE', key, 0, 7)
  if #head == 8 and struct.unpack('<d', head) == tonumber(ARGV[1]) then
    deleted = deleted + redis.call('DEL', key)
  end
end
return deleted
