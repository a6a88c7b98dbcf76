-- ARGV: process, number of this request, most messages or 0, whether to wait for room, delay in ms, type and data of each message
local seen = redis.call('GET', KEYS[7])
if seen then
  local number, count = string.match(seen, '(%d+):(%d+)')
  -- asked again, because its answer was lost
  if tonumber(number) == tonumber(ARGV[2]) then return tonumber(count) end
  if tonumber(number) > tonumber(ARGV[2]) then return (#ARGV - 5) / 2 end
end
local count, most, delay = (#ARGV - 5) / 2, tonumber(ARGV[3]), tonumber(ARGV[5])
if most > 0 then
  count = math.min(count, most - redis.call('XLEN', KEYS[1]) - redis.call('ZCARD', KEYS[6]))
  if count <= 0 then
    if ARGV[4] == '1' then wait(KEYS[4], ARGV[1]) end
    return 0
  end
end
for i = 0, count - 1 do
  local kind, data = ARGV[6 + 2 * i], ARGV[7 + 2 * i]
  if delay > 0 then
    redis.call('ZADD', KEYS[6], now() + delay, ARGV[1] .. ':' .. ARGV[2] .. ':' .. i .. '|' .. kind .. '|' .. data)
  else
    redis.call('XADD', KEYS[1], '*', 't', kind, 'd', data)
  end
end
redis.call('SET', KEYS[7], ARGV[2] .. ':' .. count, 'PX', 600000)
wake(KEYS[3], count)
return count
