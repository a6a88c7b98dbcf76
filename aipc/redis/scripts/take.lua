-- ARGV: process, most, whether to wait, ms of a lease, number of this request
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

-- asked again, because its answer was lost
local slot = ARGV[5] % 1024
local before = redis.call('HGET', KEYS[9], slot)
if before and string.match(before, '%d+') == ARGV[5] then
  for id, attempts in string.gmatch(before, '(%d+%-%d+):(%d+)') do
    local now_attempts, owner = lease_of(id)
    local entry = owner == ARGV[1] and now_attempts == tonumber(attempts) and redis.call('XRANGE', KEYS[1], id, id)[1]
    if entry then add(entry, now_attempts) end
  end
  if #taken > 0 then return taken end
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
if #taken > 0 then
  local leases = {ARGV[5]}
  for i, job in ipairs(taken) do leases[i + 1] = job[1] .. ':' .. job[2] end
  redis.call('HSET', KEYS[9], slot, table.concat(leases, ' '))
  redis.call('PEXPIRE', KEYS[9], 600000)
  return taken
end
if ARGV[3] == '1' then wait(KEYS[3], ARGV[1]) end
return due
