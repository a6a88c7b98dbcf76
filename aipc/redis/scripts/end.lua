-- No more comes from us: ARGV[2] is 1 if we are gone altogether. ARGV[1]: ms after which nothing needs to be left
redis.call('HSET', KEYS[2], 'closed', '1')
wake(KEYS[3], 1)
if ARGV[2] == '1' then
  redis.call('DEL', KEYS[6])
  redis.call('HSET', KEYS[7], 'over', '1')
end
for _, key in ipairs({KEYS[1], KEYS[2], KEYS[7], KEYS[8]}) do redis.call('PEXPIRE', key, ARGV[1]) end
