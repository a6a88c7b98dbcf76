-- ARGV: process, how many done ones to keep, how many others to take, then id and attempt of each
-- Gives how many are leased to others, how many to nobody, and the others: {{id, attempts, type, data}, ...}
local others, nobody, removed = 0, 0, 0
for i = 4, #ARGV, 2 do
  local attempts, owner = lease_of(ARGV[i])
  if owner == ARGV[1] and attempts == tonumber(ARGV[i + 1]) then
    if tonumber(ARGV[2]) > 0 then
      local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
      if entry then redis.call('XADD', KEYS[8], 'MAXLEN', '~', ARGV[2], '*', unpack(entry[2])) end
    end
    remove(ARGV[i])
    removed = removed + 1
  elseif owner then
    others = others + 1
  else
    nobody = nobody + 1
  end
end
wake(KEYS[4], removed)
return {others, nobody, tonumber(ARGV[3]) > 0 and take(ARGV[1], tonumber(ARGV[3]), '') or {}}
