-- The unique key of a stored message: key, until, seconds; nil if it has none.
local function unique_of(value)
  local flags = value:byte(11) or 0
  if bit.band(flags, HAS_UNIQUE) == 0 then return nil end
  local at = 24
  if bit.band(flags, HAS_EXPIRES) ~= 0 then at = at + 8 end
  if bit.band(flags, HAS_NOT_BEFORE) ~= 0 then at = at + 8 end
  if #value < at + 10 then return nil end
  local until_, ttl, length, from = unpack_from('<BdI2', value, at)
  return value:sub(from, from + length - 1), until_, ttl
end

local function free_key(q, id, key)
  if call('GET', key) == q.base .. '\0' .. id then call('DEL', key) end
end

local function free_key_of(q, id, value, unique_prefix)
  local key, until_ = unique_of(value)
  if key and until_ ~= UNTIL_TTL then free_key(q, id, unique_prefix .. key) end
end
