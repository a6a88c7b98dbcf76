-- ARGV: process, the taker that does not wait any more. Gives back, as if it had never been leased, what this process has
redis.call('ZREM', KEYS[3], ARGV[2])
local pending = redis.pcall('XPENDING', KEYS[1], GROUP, '-', '+', 1000000, ARGV[1])
for i = 1, #pending do give_back(pending[i][1], pending[i][4], false, 0) end
