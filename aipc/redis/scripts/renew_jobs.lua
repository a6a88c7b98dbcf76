-- ARGV: process, then id and attempt of each. Gives the ids whose leases have ended.
local lost = {}
for i = 2, #ARGV, 2 do
  local attempts, owner = lease_of(ARGV[i])
  if owner == ARGV[1] and attempts == tonumber(ARGV[i + 1]) then
    redis.call('XCLAIM', KEYS[1], GROUP, ARGV[1], 0, ARGV[i], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
