"""The scripts that run inside Redis. Each is idempotent, and all keys of one stand in one slot.

They use no command but HGET, HGETALL, HSET and HDEL, the ones that a user of ours needs anyway.
"""

from __future__ import annotations

from typing import Final

#: The order at the beginning of a field, 48 digits that compare as text; empty, the lowest, if there is none.
_ORDER_OF = """
local function order_of(raw)
  local order = string.match(string.sub(raw or '', 1, 48), '^%d+$') or ''
  if #order ~= 48 then return '' end
  return order
end
"""
#: The mark of a cold segment as orders by partition, and back (``cold_mark.py``).
_MARKS = """
local function padded(number) return string.rep('0', 16 - #number) .. number end
local function trimmed(digits) return string.match(digits, '^0*(%d+)$') end
local function left_of(mark)
  local left = {}
  for p, g, e, s in string.gmatch(mark or '', '(%d+):(%d+)%.(%d+)%.(%d+)') do
    left[p] = padded(g) .. padded(e) .. padded(s)
  end
  return left
end
local function mark_of(left)
  local items = {}
  for p, order in pairs(left) do
    items[#items + 1] = { tonumber(p), p .. ':' .. trimmed(string.sub(order, 1, 16)) .. '.'
      .. trimmed(string.sub(order, 17, 32)) .. '.' .. trimmed(string.sub(order, 33, 48)) }
  end
  table.sort(items, function(one, other) return one[1] < other[1] end)
  for place, item in ipairs(items) do items[place] = item[2] end
  return table.concat(items, ' ')
end
"""

#: Replaces field ARGV[1] by ARGV[2] unless its order (the first 48 bytes, digits) is larger than the new,
#: or, with ARGV[3], is neither that nor the new one. An equal order means equal bytes: writing again is
#: harmless and mends a damaged value.
COMPARE_AND_SET: Final = (
    _ORDER_OF
    + """
local order = order_of(redis.call('HGET', KEYS[1], ARGV[1]))
local new = string.sub(ARGV[2], 1, 48)
if order > new then return 0 end
if ARGV[3] ~= '' and order ~= ARGV[3] and order ~= new then return -1 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
)
#: The same for field ARGV[1] of a segment, KEYS[1], taught at ARGV[3] (ms), whose mark would be at ARGV[4] of
#: KEYS[2]: one that went cold with a larger order counts too. What is left of the mark is wanted, in KEYS[3].
SET_SEGMENT: Final = (
    _ORDER_OF
    + _MARKS
    + """
local mark = redis.call('HGET', KEYS[2], ARGV[4])
local left = left_of(mark)
local order, gone = order_of(redis.call('HGET', KEYS[1], ARGV[1])), left[ARGV[1]] or ''
local new = string.sub(ARGV[2], 1, 48)
if order > new or gone > new then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if tonumber(ARGV[3]) > (tonumber(redis.call('HGET', KEYS[1], 'at') or '') or 0) then
  redis.call('HSET', KEYS[1], 'at', ARGV[3])
end
if mark then
  left[ARGV[1]] = nil
  if next(left) then
    redis.call('HSET', KEYS[2], ARGV[4], mark_of(left))
    redis.call('HSET', KEYS[3], ARGV[4], '')
  else
    redis.call('HDEL', KEYS[2], ARGV[4])
    redis.call('HDEL', KEYS[3], ARGV[4])
  end
end
return 1
"""
)
#: Marks partition ARGV[1], with order ARGV[2] (48 digits), as having left the segment; 2: it cannot, for the
#: segment stands in Redis and lacks this.
SETTLE_SEGMENT: Final = (
    _ORDER_OF
    + _MARKS
    + """
local left = left_of(redis.call('HGET', KEYS[2], ARGV[3]))
local order, gone = order_of(redis.call('HGET', KEYS[1], ARGV[1])), left[ARGV[1]] or ''
if order > ARGV[2] or gone > ARGV[2] then return 0 end
if order == ARGV[2] or gone == ARGV[2] then return 1 end
if #redis.call('HGETALL', KEYS[1]) > 0 then return 2 end
left[ARGV[1]] = ARGV[2]
redis.call('HSET', KEYS[2], ARGV[3], mark_of(left))
return 1
"""
)
#: Takes the segment out, mark instead, unless it was taught after ARGV[1] (ms): then that time. -1: damaged.
COOL_SEGMENT: Final = (
    _ORDER_OF
    + _MARKS
    + """
local flat = redis.call('HGETALL', KEYS[1])
if #flat == 0 then return 0 end
local left, names = left_of(redis.call('HGET', KEYS[2], ARGV[2])), {}
for place = 1, #flat, 2 do
  local name, value = flat[place], flat[place + 1]
  names[#names + 1] = name
  if name == 'at' then
    local at = tonumber(value) or 0
    if at > tonumber(ARGV[1]) then return at end
  else
    local order = order_of(value)
    if order == '' or not string.match(name, '^%d+$') then return -1 end
    if order > (left[name] or '') then left[name] = order end
  end
end
redis.call('HSET', KEYS[2], ARGV[2], mark_of(left))
redis.call('HDEL', KEYS[1], unpack(names))
redis.call('HDEL', KEYS[3], ARGV[2])
return 0
"""
)
#: Wants those of the segments ARGV back that are cold.
WANT: Final = """
for _, place in ipairs(ARGV) do
  if redis.call('HGET', KEYS[1], place) then redis.call('HSET', KEYS[2], place, '') end
end
return 0
"""
#: Deletes field ARGV[1] if it still holds ARGV[2].
COMPARE_AND_DELETE: Final = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
"""
#: All fields of each hash but the last in one instant: no owner can rewrite between two answers. Then, of the
#: last, which has the marks of cold segments, the fields ARGV.
READ: Final = """
local answer, marks = {}, {}
for place = 1, #KEYS - 1 do answer[place] = redis.call('HGETALL', KEYS[place]) end
for place, name in ipairs(ARGV) do marks[place] = redis.call('HGET', KEYS[#KEYS], name) end
answer[#KEYS] = marks
return answer
"""
#: Field ARGV[1] of a segment, and its mark, in one instant.
OWN_SEGMENT: Final = """
return { redis.call('HGET', KEYS[1], ARGV[1]), redis.call('HGET', KEYS[2], ARGV[2]) }
"""
