-- Jobs. KEYS: the stream, those given back, takers that wait, senders that wait, the dead, those with a delay, the last request of this
-- process to send, those that are done, what this process's last requests to take gave
local GROUP = 'aipc'

-- How often an entry was leased, and by whom now; nil if nobody has it
local function lease_of(id)
  local found = redis.pcall('XPENDING', KEYS[1], GROUP, id, id, 1)
  if found.err or not found[1] then return nil end
  return found[1][4], found[1][2]
end

local function remove(id)
  redis.call('XACK', KEYS[1], GROUP, id)
  redis.call('XDEL', KEYS[1], id)
end

local function order(id)
  local ms, number = string.match(id, '(%d+)-(%d+)')
  return ms * 4096 + math.min(number, 4095)
end

-- Ends the lease of an entry that was leased `attempts` times: for others to take, or dead after too many
local function give_back(id, attempts, counted, most)
  if counted and most > 0 and attempts >= most then
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    if entry then
      redis.call('XADD', KEYS[5], '*', unpack(entry[2]))
    end
    remove(id)
    wake(KEYS[4], 1)
    return
  end
  if not counted then attempts = attempts - 1 end
  redis.call('XCLAIM', KEYS[1], GROUP, 'given-back', 0, id, 'RETRYCOUNT', attempts, 'JUSTID')
  redis.call('ZADD', KEYS[2], order(id), id)
  wake(KEYS[3], 1)
end

-- Makes jobs ready whose delay is over; how many ms are left of the next one, or -1
local function promote()
  if redis.call('EXISTS', KEYS[6]) == 0 then return -1 end
  local time = now()
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', time, 'LIMIT', 0, 100)) do
    local _, last, kind = string.find(member, '^[^|]*|(%d+)|')
    redis.call('XADD', KEYS[1], '*', 't', kind, 'd', string.sub(member, last + 1))
    redis.call('ZREM', KEYS[6], member)
    wake(KEYS[3], 1)
  end
  local first = redis.call('ZRANGE', KEYS[6], 0, 0, 'WITHSCORES')
  return first[2] and math.max(first[2] - time, 0) or -1
end

