-- Locks. KEYS: units that are held, and until when (ms); who waits, in order; the last token; tokens of holders; the last number
local function expire_leases()
  local time = now()
  for _, unit in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', time)) do
    redis.call('ZREM', KEYS[1], unit)
    redis.call('HDEL', KEYS[4], string.match(unit, '^(.*)#%d+$'))
  end
end

local function waiter(id, units, ttl)
  return id .. '#' .. units .. '#' .. ttl
end

-- Holds units, and gives the token, which only grows
local function hold(id, units, ttl)
  local token = redis.call('INCR', KEYS[3])
  for i = 1, units do redis.call('ZADD', KEYS[1], now() + ttl, id .. '#' .. i) end
  redis.call('HSET', KEYS[4], id, token)
  return token
end

-- Gives free units to those who wait, in order, and tells them the token and when (ms); whose process is gone has none
local function hand_over(limit)
  while true do
    local first = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
    if not first then return end
    local id, units, ttl = string.match(first, '^(.*)#(%d+)#(%d+)$')
    if redis.call('ZCARD', KEYS[1]) + units > limit then return end
    redis.call('ZREM', KEYS[2], first)
    local process = 'aipc:' .. string.match(id, '^[^:]*')
    local news = id
    if redis.call('PUBSUB', 'NUMSUB', process)[2] > 0 then
      news = id .. '\0' .. hold(id, tonumber(units), tonumber(ttl)) .. ':' .. now()
    end
    redis.call('PUBLISH', process, news) -- in a cluster, this may reach a process that listens at another node: it asks again here
  end
end

