-- ARGV: process, number of this request, whether to wait for room, whether we were accepted, most messages, then the messages
-- Gives how many were taken, or -2 if the other side is gone.
if redis.call('HEXISTS', KEYS[2], 'over') == 1 or is_gone(ARGV[4]) then return GONE end
local seen = redis.call('HGET', KEYS[2], 'last')
if seen then
  local number, count = string.match(seen, '(%d+):(%d+)')
  -- asked again, because its answer was lost
  if tonumber(number) == tonumber(ARGV[2]) then return tonumber(count) end
  if tonumber(number) > tonumber(ARGV[2]) then return #ARGV - 5 end
end
local count = math.min(#ARGV - 5, tonumber(ARGV[5]) - redis.call('LLEN', KEYS[1]))
if count <= 0 then
  if ARGV[3] == '1' then wait(KEYS[4], ARGV[1]) end
  return 0
end
for i = 6, 5 + count do redis.call('RPUSH', KEYS[1], ARGV[i]) end
redis.call('HSET', KEYS[2], 'last', ARGV[2] .. ':' .. count)
wake(KEYS[3], 1)
return count
