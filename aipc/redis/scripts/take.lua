-- ARGV: process, most, the taker that is to wait, or nothing
-- Gives {{id, attempts, type, data}, ...}; or {how many ms are left of the next delay, or -1, the time (ms)}
local taken, due = take(ARGV[1], tonumber(ARGV[2]), ARGV[3])
return #taken > 0 and taken or {due, now()}
