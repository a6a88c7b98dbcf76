-- ARGV: process, the taker that does not wait any more. Gives what is leased to this process: {{id, attempts}, ...}
redis.call('ZREM', KEYS[3], ARGV[2])
local pending = redis.pcall('XPENDING', KEYS[1], GROUP, '-', '+', 1000000, ARGV[1])
local mine = {}
for i = 1, #pending do mine[i] = {pending[i][1], pending[i][4]} end
return mine
