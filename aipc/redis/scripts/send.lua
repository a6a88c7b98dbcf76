-- ARGV: process, number of this request, number below which all have their answers, most messages or 0, whether to wait for room,
-- delay in ms, type and data of each message
local number, count, most, delay = tonumber(ARGV[2]), (#ARGV - 6) / 2, tonumber(ARGV[4]), tonumber(ARGV[6])
if most > 0 then
  local before = taken_of(KEYS[7], number, ARGV[3])
  if before then return before end
  count = math.min(count, most - redis.call('XLEN', KEYS[1]) - redis.call('ZCARD', KEYS[6]))
  if count <= 0 then
    if ARGV[5] == '1' then wait(KEYS[4], ARGV[1]) end
    return 0
  end
else
  -- of these each is added as a whole, in the order of their numbers: it was before the last one, if it is asked again
  local last = redis.call('SET', KEYS[7], number, 'PX', 600000, 'GET')
  if last and tonumber(last) >= number then
    redis.call('SET', KEYS[7], last, 'PX', 600000)
    return count
  end
end
for i = 0, count - 1 do
  local kind, data = ARGV[7 + 2 * i], ARGV[8 + 2 * i]
  if delay > 0 then
    redis.call('ZADD', KEYS[6], now() + delay, ARGV[1] .. ':' .. ARGV[2] .. ':' .. i .. '|' .. kind .. '|' .. data)
  else
    local added = redis.pcall('XADD', KEYS[1], '*', 't', kind, 'd', data)
    if added.err then -- it is no stream
      if most == 0 then redis.call('DEL', KEYS[7]) end
      return added
    end
  end
end
if most > 0 then took(KEYS[7], number, count) end
hand_over(count)
return count
