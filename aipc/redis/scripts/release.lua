-- KEYS as for acquire. ARGV: process:number:pid:host, units, ms of a lease, how many units there are, first unit, one after the last
-- Gives how many units it held; a waiter leaves the queue.
local id, held = ARGV[1], 0
expire_leases()
redis.call('ZREM', KEYS[2], waiter(id, ARGV[2], ARGV[3]))
for i = tonumber(ARGV[5]), tonumber(ARGV[6]) do held = held + redis.call('ZREM', KEYS[1], id .. '#' .. i) end
if tonumber(ARGV[5]) == 1 then redis.call('HDEL', KEYS[4], id) end
hand_over(tonumber(ARGV[4]))
return held
