-- KEYS: queues. ARGV: prefix of unique keys, window, nonce, prefixes of records and channels, then items, each a run of
-- operations:
--   I                                            a new item
--   S queue, settlement                          if it is refused, the rest of the item is skipped
--   R rest of the key, payload, milliseconds     a record, written if it is newer
--   J key, member, size, milliseconds, count     a join; the next `count` sends are done only if the group is complete
--   E queue, id, blob, due, unique key           a send
-- Returns whether each item was done, then the numbers of new queues.
local ctx = {unique_prefix = ARGV[1], window = tonumber(ARGV[2]), nonce = ARGV[3]}
local records, channels = ARGV[4], ARGV[5]
local done, at, live, held_back = {}, 6, true, 0

local function queue_at(index)
  return opened(KEYS[tonumber(ARGV[index])])
end

local OPERATIONS = {}

function OPERATIONS.I()
  live, held_back = true, 0
  table.insert(done, 1)
  return at + 1
end

function OPERATIONS.S()
  local behind, kept, repeated = settle(queue_at(at + 1), at + 2, ctx)
  if not kept then done[#done] = 0 end
  -- An item is one step: if an earlier try did its settlement, it did the rest as well.
  if not kept or repeated then live = false end
  return behind
end

function OPERATIONS.R()
  if live then write_newer(records, channels, ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]) end
  return at + 4
end

function OPERATIONS.J()
  if live then
    local _, count = count_in(ARGV[at + 1], ARGV[at + 2], ARGV[at + 4])
    held_back = count < tonumber(ARGV[at + 3]) and tonumber(ARGV[at + 5]) or 0
  end
  return at + 6
end

function OPERATIONS.E()
  if held_back > 0 then
    held_back = held_back - 1
  elseif live then
    accept(queue_at(at + 1), ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ctx.unique_prefix)
  end
  return at + 6
end

while at <= #ARGV do
  at = OPERATIONS[ARGV[at]]()
end
flush_all()
for index, base in ipairs(KEYS) do
  if queue(base).is_new then table.insert(done, index) end
end
return done
