-- KEYS: the stream, the last number. ARGV: how many messages to keep, topic, data, what stands before a topic's channel
local number = redis.call('INCR', KEYS[2])
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'n', number, 't', ARGV[2], 'd', ARGV[3])
redis.call('PUBLISH', ARGV[4] .. ARGV[2], number .. ' ' .. ARGV[3])
return number
