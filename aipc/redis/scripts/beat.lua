-- Tells that we are alive, for ARGV[1] ms. ARGV[2]: whether we accept. ARGV[3]: whether we were accepted
-- Gives 0 if the other side is gone, 1 if nobody accepted us yet, else 2.
redis.call('SET', KEYS[6], '1', 'PX', ARGV[1])
if ARGV[2] == '1' then redis.call('HSET', KEYS[2], 'accepted', '1') end
for _, key in ipairs({KEYS[1], KEYS[2], KEYS[7], KEYS[8]}) do redis.call('PEXPIRE', key, 10 * ARGV[1]) end
if is_gone(ARGV[3]) then return 0 end
return is_accepted() and 2 or 1
