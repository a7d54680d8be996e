-- KEYS: records. ARGV: condition, expected version, whether this is a Cluster, prefix of channels, length of the
-- prefix of records, then per record payload and milliseconds (-1: forever), then under condition 3 the expected
-- version of each. Returns whether each was written.
local condition, expect, channels, length = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[4], tonumber(ARGV[5])
local done = {}
-- On a Cluster, listeners may be connected to another node.
local cluster = ARGV[3] == '1'
if cluster then has_listeners = true end
for index, key in ipairs(KEYS) do
  if condition == 3 then expect = tonumber(ARGV[#KEYS * 2 + 5 + index]) end
  local payload, ttl = ARGV[index * 2 + 4], tonumber(ARGV[index * 2 + 5])
  done[index] = write_over(head_at(key), key, payload, ttl, condition, expect)
  if done[index] == 1 then
    if not cluster then list(key, length, ttl) end
    if is_final(payload) then publish(channels, key:sub(length + 1)) end
  end
end
return done
