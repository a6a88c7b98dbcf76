-- Takes back what was leased and not renewed for ARGV[1] ms. ARGV[2]: most attempts or 0. Gives how many.
promote()
local found, first = 0, '-'
for _ = 1, 10 do
  local pending = redis.pcall('XPENDING', KEYS[1], GROUP, 'IDLE', ARGV[1], first, '+', 100)
  if pending.err then return 0 end
  for _, lease in ipairs(pending) do
    if not redis.call('ZSCORE', KEYS[2], lease[1]) then
      give_back(lease[1], lease[4], true, tonumber(ARGV[2]))
      found = found + 1
    end
    first = '(' .. lease[1]
  end
  if #pending < 100 then break end
end
return found
