-- ARGV: process, how many messages it has so far, whether to wait, whether we were accepted, most messages. Gives {number of the first, message, ...};
-- or {} if there is none, -1 at the end of the stream, -2 if the other side is gone.
local base = tonumber(redis.call('HGET', KEYS[2], 'base') or 0)
local had = tonumber(ARGV[2])
if had > base then
  redis.call('LTRIM', KEYS[1], had - base, -1)
  redis.call('HSET', KEYS[2], 'base', had)
  base = had
  wake(KEYS[4], 1)
end
local found, size = {base}, 0
for i = 0, tonumber(ARGV[5]) - 1 do
  local message = redis.call('LINDEX', KEYS[1], i)
  if not message then break end
  found[#found + 1] = message
  size = size + #message
  if size > 1048576 then break end
end
if #found > 1 then return found end
if redis.call('HEXISTS', KEYS[2], 'closed') == 1 then return -1 end
if is_gone(ARGV[4]) then return GONE end
if ARGV[3] == '1' then wait(KEYS[3], ARGV[1]) end
return {}
