-- Removes jobs whose leases had certainly not ended when it was sent. KEYS: the stream, those given back, senders that wait, those that are
-- done. ARGV: how many done ones to keep, then ids. Gives how many were leased
local leased = 0
for i = 2, #ARGV do
  if ARGV[1] ~= '0' then
    local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
    if entry then redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[1], '*', unpack(entry[2])) end
  end
  leased = leased + redis.call('XACK', KEYS[1], 'aipc', ARGV[i])
  redis.call('XDEL', KEYS[1], ARGV[i])
  redis.call('ZREM', KEYS[2], ARGV[i]) -- another one may have had it meanwhile, and given it back
end
wake(KEYS[3], #ARGV - 1)
return leased
