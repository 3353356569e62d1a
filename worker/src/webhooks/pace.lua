-- KEYS pace of one endpoint   ARGV rate per second, 1 for a delivery that was not put off before
-- Answers the milliseconds to wait; 0 to send now. At most `rate` are sent in each second of Redis' clock. A new delivery
-- that finds no room, or others waiting, reserves the next free slot; one that comes back too early waits a second.
local time = redis.call('TIME')
local second, now = tonumber(time[1]), tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local rate, new = tonumber(ARGV[1]), ARGV[2] == '1'
local pace = redis.call('HMGET', KEYS[1], 'second', 'count', 'next')
local count = tonumber(pace[1]) == second and tonumber(pace[2]) or 0
local next_slot = tonumber(pace[3]) or 0

if count < rate and not (new and next_slot > now) then
  redis.call('HSET', KEYS[1], 'second', second, 'count', count + 1)
  if next_slot <= now then redis.call('PEXPIRE', KEYS[1], 60000) end
  return 0
end
if not new then return (second + 1) * 1000 - now end
local slot = math.max(next_slot, (second + 1) * 1000)
redis.call('HSET', KEYS[1], 'next', string.format('%.3f', slot + 1000 / rate))
redis.call('PEXPIRE', KEYS[1], slot - now + 60000)
return math.ceil(slot - now)
