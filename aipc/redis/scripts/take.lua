-- ARGV: process, most, whether to wait, ms of a lease
-- Gives {{id, attempts, type, data}, ...}, or how many ms are left of the next delay, or -1
local taken = {}
local function add(entry, attempts)
  local job = {entry[1], attempts, '1', ''}
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 't' then job[3] = entry[2][i + 1] end
    if entry[2][i] == 'd' then job[4] = entry[2][i + 1] end
  end
  taken[#taken + 1] = job
end

local due = promote()
local most = tonumber(ARGV[2])
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, most - 1)) do
  redis.call('ZREM', KEYS[2], id)
  local attempts = lease_of(id)
  local claimed = attempts and redis.call('XCLAIM', KEYS[1], GROUP, ARGV[1], 0, id, 'RETRYCOUNT', attempts + 1)
  if claimed and claimed[1] then add(claimed[1], attempts + 1) end
end
if #taken < most then
  local function read()
    return redis.pcall('XREADGROUP', 'GROUP', GROUP, ARGV[1], 'COUNT', most - #taken, 'STREAMS', KEYS[1], '>')
  end
  local found = read()
  if found and found.err then
    if not string.find(found.err, 'NOGROUP', 1, true) then return found end
    redis.call('XGROUP', 'CREATE', KEYS[1], GROUP, '0', 'MKSTREAM')
    found = read()
  end
  for _, entry in ipairs(found and found[1][2] or {}) do add(entry, 1) end
end
if #taken == most then wake(KEYS[3], 1) end
if #taken > 0 then return taken end
if ARGV[3] == '1' then wait(KEYS[3], ARGV[1]) end
return due
