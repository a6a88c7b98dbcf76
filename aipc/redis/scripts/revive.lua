-- Makes dead jobs ready again, up to 1,000: how many.
local entries = redis.call('XRANGE', KEYS[5], '-', '+', 'COUNT', 1000)
for _, entry in ipairs(entries) do
  redis.call('XADD', KEYS[1], '*', unpack(entry[2]))
  redis.pcall('XACK', KEYS[5], GROUP, entry[1])
  redis.call('XDEL', KEYS[5], entry[1])
end
hand_over(#entries)
return #entries
