-- ARGV: process, number of this request, most messages or 0, whether to wait for room, delay in ms, type and data of each message
local number, count, most, delay = tonumber(ARGV[2]), (#ARGV - 5) / 2, tonumber(ARGV[3]), tonumber(ARGV[5])
-- asked again, because its answer was lost: how many it has added
local function added_before(seen)
  if not seen then return nil end
  local last, added = string.match(seen, '(%d+):(%d+)')
  if tonumber(last) == number then return tonumber(added) end
  if tonumber(last) > number then return count end
end
if most > 0 then
  local before = added_before(redis.call('GET', KEYS[7]))
  if before then return before end
  count = math.min(count, most - redis.call('XLEN', KEYS[1]) - redis.call('ZCARD', KEYS[6]))
  if count <= 0 then
    if ARGV[4] == '1' then wait(KEYS[4], ARGV[1]) end
    return 0
  end
end
local seen = redis.call('SET', KEYS[7], ARGV[2] .. ':' .. count, 'PX', 600000, 'GET')
local before = added_before(seen)
if before then
  redis.call('SET', KEYS[7], seen, 'PX', 600000)
  return before
end
for i = 0, count - 1 do
  local kind, data = ARGV[6 + 2 * i], ARGV[7 + 2 * i]
  if delay > 0 then
    redis.call('ZADD', KEYS[6], now() + delay, ARGV[1] .. ':' .. ARGV[2] .. ':' .. i .. '|' .. kind .. '|' .. data)
  else
    local added = redis.pcall('XADD', KEYS[1], '*', 't', kind, 'd', data)
    if added.err then -- it is no stream
      redis.call('DEL', KEYS[7])
      return added
    end
  end
end
hand_over(count)
return count
