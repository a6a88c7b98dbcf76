-- What was taken of a request that is asked again, because its answer was lost; nil if it is new. Below `answered` all have their answers
local function taken_of(place, number, answered)
  redis.call('ZREMRANGEBYSCORE', place, '-inf', '(' .. answered)
  local found = redis.call('ZRANGEBYSCORE', place, number, number)[1]
  return found and tonumber(string.match(found, ':(%d+)'))
end

local function took(place, number, count)
  redis.call('ZADD', place, number, number .. ':' .. count)
  redis.call('PEXPIRE', place, 600000)
end

