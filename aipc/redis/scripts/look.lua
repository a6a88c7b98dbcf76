-- KEYS as for acquire. Gives the units that are held, and how many wait.
expire_leases()
return {redis.call('ZRANGE', KEYS[1], 0, -1), redis.call('ZCARD', KEYS[2])}
