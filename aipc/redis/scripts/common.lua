local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Wakes up to `count` of the processes that wait at `place`, the longest waiting first; those that are gone count for nothing.
local function wake(place, count)
  while count > 0 do
    local first = redis.call('ZPOPMIN', place)[1]
    if not first then return end
    if redis.call('PUBLISH', 'aipc:' .. string.match(first, '^[^.]*'), place) > 0 then count = count - 1 end
  end
end

local function wait(place, process)
  redis.call('ZADD', place, 'NX', now(), process)
  redis.call('PEXPIRE', place, 600000)
end

