-- KEYS: records. ARGV: condition, expected version, then per record channel, payload, milliseconds (-1: for ever).
local written = {}
local condition, expect = tonumber(ARGV[1]), tonumber(ARGV[2])
for index, key in ipairs(KEYS) do
  local at = index * 3
  written[index] = write_record(key, ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), condition, expect)
end
return written
