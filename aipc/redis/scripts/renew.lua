-- KEYS as for acquire. ARGV: process:number:pid:host, units, ms of a lease. Gives how many of them are still held.
local held = 0
expire_leases()
for i = 1, tonumber(ARGV[2]) do
  local unit = ARGV[1] .. '#' .. i
  if redis.call('ZSCORE', KEYS[1], unit) then
    redis.call('ZADD', KEYS[1], 'XX', now() + tonumber(ARGV[3]), unit)
    held = held + 1
  end
end
return held
