-- ARGV: process, number of this request, number below which all have their answers, whether to wait for room, whether we were accepted,
-- most messages, then the messages. Gives how many were taken, or -2 if the other side is gone.
if redis.call('HEXISTS', KEYS[2], 'over') == 1 or is_gone(ARGV[5]) then return GONE end
local before = taken_of(KEYS[8], ARGV[2], ARGV[3])
if before then return before end
local count = math.min(#ARGV - 6, tonumber(ARGV[6]) - redis.call('LLEN', KEYS[1]))
if count <= 0 then
  if ARGV[4] == '1' then wait(KEYS[4], ARGV[1]) end
  return 0
end
for i = 7, 6 + count do redis.call('RPUSH', KEYS[1], ARGV[i]) end
took(KEYS[8], ARGV[2], count)
wake(KEYS[3], 1)
return count
