-- KEYS ready ring wake full admit admit:wake paused   ARGV window, from_ledger (1|0), ticket...
-- Adds tickets while their lane has room: fewer than `window` tickets of the same tenant with the same or a higher
-- priority. A lane without room is marked full, and asks the scheduler for the rest once it runs low. Answers how many
-- were not there yet.
local ready, ring, wake, full, admit, admit_wake, paused = unpack(KEYS)
local window, from_ledger = tonumber(ARGV[1]), ARGV[2] == '1'
local last = string.rep('\255', 16)
local room, touched, add, overflow = {}, {}, {}, {}

for i = 3, #ARGV do
  local ticket = ARGV[i]
  local lane = string.sub(ticket, 1, 17)
  local left = room[lane]
  if left == nil then
    local tenant = string.sub(ticket, 1, 16)
    if redis.call('SISMEMBER', paused, tenant) == 1 then
      left = -1
    elseif not from_ledger and redis.call('SISMEMBER', full, lane) == 1 then
      left = 0
    else
      left = math.max(0, window - redis.call('ZLEXCOUNT', ready, '[' .. tenant, '[' .. lane .. last))
    end
  end
  if left > 0 then
    add[#add + 1] = 0
    add[#add + 1] = ticket
    touched[string.sub(ticket, 1, 16)] = true
    left = left - 1
  elseif left == 0 then
    overflow[lane] = true
  end
  room[lane] = left
end

for lane in pairs(overflow) do
  if redis.call('SADD', full, lane) == 1 and redis.call('SADD', admit, lane) == 1 then
    redis.call('LPUSH', admit_wake, '')
  end
end
if #add == 0 then return 0 end

local added = 0
for i = 1, #add, 1000 do
  added = added + redis.call('ZADD', ready, unpack(add, i, math.min(i + 999, #add)))
end
local turn = redis.call('ZRANGE', ring, -1, -1, 'WITHSCORES')
turn = (tonumber(turn[2]) or 0) + 1
for tenant in pairs(touched) do
  redis.call('ZADD', ring, 'NX', turn, tenant)
end
if redis.call('LLEN', wake) < 8 then redis.call('LPUSH', wake, '') end
return added
