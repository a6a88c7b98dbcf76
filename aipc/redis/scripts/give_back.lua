-- ARGV: process, whether the attempt counts, most attempts or 0, then id and attempt of each
for i = 4, #ARGV, 2 do
  local attempts, owner = lease_of(ARGV[i])
  if owner == ARGV[1] and attempts == tonumber(ARGV[i + 1]) then
    give_back(ARGV[i], attempts, ARGV[2] == '1', tonumber(ARGV[3]))
  end
end
