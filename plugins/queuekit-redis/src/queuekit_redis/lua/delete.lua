-- KEYS: records. ARGV: expected version (-1: any), length of the prefix of records, whether this is a Cluster. Returns
-- the number of deleted records.
local expect, length = tonumber(ARGV[1]), tonumber(ARGV[2])
local deleted = 0
local function is_expected(key)
  if expect < 0 then return true end
  local head = redis.call('GETRANGE', key, 0, 7)
  return #head == 8 and struct.unpack('<d', head) == expect
end
for _, key in ipairs(KEYS) do
  if is_expected(key) then
    deleted = deleted + redis.call('UNLINK', key)
    local kind = key:match('^[^:]*:', length + 1)
    -- Results are not listed; on a Cluster, nothing is.
    if ARGV[3] ~= '1' and kind and kind ~= 'result:' then
      redis.call('ZREM', key:sub(1, length - 7) .. 'listed:' .. kind, key:sub(length + 1))
    end
  end
end
return deleted
