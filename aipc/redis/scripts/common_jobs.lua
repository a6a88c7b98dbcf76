-- Jobs. KEYS: the stream, those given back, takers that wait, senders that wait, the dead, those with a delay, the last request of this
-- process to send, those that are done. A taker is `process.N`: a process, and a number of its own for this queue
local GROUP = 'aipc'
local MOST_SENT_ALONG = 65536 -- bytes of a job: the server drops a process for which many MB wait

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

local function put_back(id, attempts)
  redis.call('XCLAIM', KEYS[1], GROUP, 'given-back', 0, id, 'RETRYCOUNT', attempts, 'JUSTID')
  redis.call('ZADD', KEYS[2], order(id), id)
end

local function read_new(call, process, most)
  return call('XREADGROUP', 'GROUP', GROUP, process, 'COUNT', most, 'STREAMS', KEYS[1], '>')
end

-- What may be a type: another client may have added anything
local function is_type(text)
  return #text < 20 and string.find(text, '^%d+$')
end

local function add(taken, entry, attempts)
  local job = {entry[1], attempts, '1', ''}
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 't' and is_type(entry[2][i + 1]) then job[3] = entry[2][i + 1] end
    if entry[2][i] == 'd' then job[4] = entry[2][i + 1] end
  end
  taken[#taken + 1] = job
end

local function take_back(taken, process, most)
  for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, most - 1)) do
    redis.call('ZREM', KEYS[2], id)
    local attempts = lease_of(id)
    local claimed = attempts and redis.call('XCLAIM', KEYS[1], GROUP, process, 0, id, 'RETRYCOUNT', attempts + 1)
    if claimed and claimed[1] then add(taken, claimed[1], attempts + 1) end
  end
end

local function take_new(taken, process, most)
  local found = read_new(redis.pcall, process, most)
  if found and found.err then
    if string.find(found.err, 'NOGROUP', 1, true) then
      redis.call('XGROUP', 'CREATE', KEYS[1], GROUP, '0', 'MKSTREAM')
    end
    found = read_new(redis.call, process, most)
  end
  for _, entry in ipairs(found and found[1][2] or {}) do add(taken, entry, 1) end
end

-- Leases up to `most` jobs to a process, those given back first: {{id, attempts, type, data}, ...}
local function lease(process, most)
  local taken = {}
  take_back(taken, process, most)
  if #taken < most then take_new(taken, process, most - #taken) end
  return taken
end

-- Leases jobs to those who wait, the longest waiting first, and sends each along with the wake-up
local function hand_over(count)
  while count > 0 do
    local taker, since = unpack(redis.call('ZPOPMIN', KEYS[3]))
    if not taker then return end
    local process = string.match(taker, '^[^.]*')
    local channel, news = 'aipc:' .. process, KEYS[3]
    if redis.call('PUBSUB', 'NUMSUB', channel)[2] > 0 then
      local job = lease(process, 1)[1]
      if not job then
        redis.call('ZADD', KEYS[3], since, taker)
        return
      end
      if #job[4] > MOST_SENT_ALONG then
        put_back(job[1], job[2] - 1)
      else
        news = table.concat({KEYS[3] .. '\0' .. taker, now(), unpack(job)}, ' ')
      end
    end
    -- in a cluster, this may reach a process that listens at another node: it asks here
    if redis.call('PUBLISH', channel, news) > 0 then count = count - 1 end
  end
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
  put_back(id, counted and attempts or attempts - 1)
  hand_over(1)
end

-- Makes jobs ready whose delay is over; how many ms are left of the next one, or -1
local function promote()
  local time = now()
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', time, 'LIMIT', 0, 100)) do
    local _, last, kind = string.find(member, '^[^|]*|(%d+)|')
    redis.call('XADD', KEYS[1], '*', 't', kind, 'd', string.sub(member, last + 1))
    redis.call('ZREM', KEYS[6], member)
    hand_over(1)
  end
  local first = redis.call('ZRANGE', KEYS[6], 0, 0, 'WITHSCORES')
  return first[2] and math.max(first[2] - time, 0) or -1
end

-- As `lease`; and promotes. If there is none, the taker waits, if it is not empty. Gives the jobs, and when to ask again, as `promote`
local function take(process, most, taker)
  local taken, due = {}, -1
  if redis.call('EXISTS', KEYS[2], KEYS[6]) > 0 then -- mostly there is neither
    due = promote()
    taken = lease(process, most)
  else
    take_new(taken, process, most)
  end
  if taker ~= '' then
    if #taken == most then hand_over(1) end -- somebody else may have added more
    if #taken == 0 then wait(KEYS[3], taker) end
  end
  return taken, due
end

