-- KEYS failures of one subject   ARGV deed (look, fail, forget), failures that are free, first wait, longest wait, milliseconds
-- after which failures are forgotten, how far the clock was moved (tests)
-- Answers the milliseconds to wait, and the failures so far.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[6])
if ARGV[1] == 'forget' then
  redis.call('DEL', KEYS[1])
  return { 0, 0 }
end
local stored = redis.call('HMGET', KEYS[1], 'count', 'open_at', 'last')
local count, open_at, last = tonumber(stored[1]) or 0, tonumber(stored[2]) or 0, tonumber(stored[3]) or now
if now - last > tonumber(ARGV[5]) then count, open_at = 0, 0 end
if ARGV[1] == 'fail' then
  count = count + 1
  local over = count - tonumber(ARGV[2])
  if over >= 0 then
    open_at = now + math.min(tonumber(ARGV[3]) * 2 ^ math.min(over, 20), tonumber(ARGV[4]))
  end
  redis.call('HSET', KEYS[1], 'count', count, 'open_at', string.format('%.0f', open_at), 'last', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
return { math.max(math.ceil(open_at - now), 0), count }
