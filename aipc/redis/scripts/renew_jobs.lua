-- ARGV: process, then id and attempt of each. Gives which leases have ended: 0 is the first one.
local lost = {}
for i = 2, #ARGV, 2 do
  local attempts, owner = lease_of(ARGV[i])
  if owner == ARGV[1] and attempts == tonumber(ARGV[i + 1]) then
    redis.call('XCLAIM', KEYS[1], GROUP, ARGV[1], 0, ARGV[i], 'JUSTID')
  else
    lost[#lost + 1] = i / 2 - 1
  end
end
return lost
