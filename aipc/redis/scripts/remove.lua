-- Removes jobs whose leases had certainly not ended when it was sent. KEYS: the stream, those given back, senders that wait. ARGV: ids
-- Gives how many were leased
local leased = redis.call('XACK', KEYS[1], 'aipc', unpack(ARGV))
redis.call('XDEL', KEYS[1], unpack(ARGV))
redis.call('ZREM', KEYS[2], unpack(ARGV)) -- sent again, after a loss: another one may have had them, and given them back
wake(KEYS[3], #ARGV)
return leased
