-- Gives how many jobs are ready, leased, delayed, and dead, and whether there is such a queue.
promote()
local all, back = redis.call('XLEN', KEYS[1]), redis.call('ZCARD', KEYS[2])
local pending = redis.pcall('XPENDING', KEYS[1], GROUP)
local leased = pending.err and 0 or pending[1]
return {all - leased + back, leased - back, redis.call('ZCARD', KEYS[6]), redis.call('XLEN', KEYS[5]), redis.call('EXISTS', KEYS[1])}
