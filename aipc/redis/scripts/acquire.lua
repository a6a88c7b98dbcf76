-- KEYS: who holds a unit, until when (ms); who waits, in order; the last token; the tokens of holders
-- ARGV: process:number:pid:host, units, how many units there are, ms of a lease, whether to wait
-- Gives {token} if it holds them, else {0, ms until the next lease ends, the time (ms)}
local id, units, limit, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
expire_leases()
local token = redis.call('HGET', KEYS[4], id)
if token then -- handed over to it, or asked again
  for i = 1, units do redis.call('ZADD', KEYS[1], 'XX', now() + ttl, id .. '#' .. i) end
  return {tonumber(token)}
end
hand_over(limit)
token = redis.call('HGET', KEYS[4], id)
if token then return {tonumber(token)} end
if redis.call('ZCARD', KEYS[1]) + units <= limit and redis.call('ZCARD', KEYS[2]) == 0 then
  return {hold(id, units, ttl)}
end
if ARGV[5] == '1' then
  redis.call('ZADD', KEYS[2], 'NX', redis.call('INCR', KEYS[5]), waiter(id, units, ttl))
  redis.call('PEXPIRE', KEYS[2], 600000)
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {0, first[2] and math.max(first[2] - now(), 1) or 1000, now()}
