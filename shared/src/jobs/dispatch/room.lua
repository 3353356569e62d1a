-- KEYS ready   ARGV window, lane...
-- How many tickets more each lane may hold.
local last = string.rep('\255', 16)
local room = {}
for i = 2, #ARGV do
  local lane = ARGV[i]
  local held = redis.call('ZLEXCOUNT', KEYS[1], '[' .. string.sub(lane, 1, 16), '[' .. lane .. last)
  room[#room + 1] = math.max(0, tonumber(ARGV[1]) - held)
end
return room
