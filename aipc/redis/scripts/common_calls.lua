-- Connections. KEYS: messages, their state (base, closed, over, accepted), who waits to receive, who waits to send, whether the
-- other side is alive, whether we are, the state of the other direction, what was sent and may be asked again
local GONE = -2

local function is_accepted()
  return redis.call('HEXISTS', KEYS[2], 'accepted') == 1 or redis.call('HEXISTS', KEYS[7], 'accepted') == 1
end

-- `known`: '1' if it was accepted, as far as we know: a server that has lost its data does not
local function is_gone(known)
  if known == '1' then return redis.call('EXISTS', KEYS[5]) == 0 or not is_accepted() end
  return is_accepted() and redis.call('EXISTS', KEYS[5]) == 0
end

