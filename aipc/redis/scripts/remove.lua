-- Removes jobs whose leases have certainly not ended. KEYS: the stream, senders that wait. ARGV: ids. Gives how many were leased
local leased = redis.call('XACK', KEYS[1], 'aipc', unpack(ARGV))
redis.call('XDEL', KEYS[1], unpack(ARGV))
wake(KEYS[2], #ARGV)
return leased
