-- KEYS counters, all of one hash tag   ARGV wanted, least, given back, milliseconds of the window, how far the clock was moved
-- (tests), then the limit of each counter
-- A sliding window: what was counted in the window before weighs as much as of it the last `window` milliseconds still hold.
-- Grants up to `wanted`, of all counters at once; nothing if there is not room for `least`. Answers what was granted, the
-- milliseconds until there is room for `least`, those until the window ends, and what is left of each counter.
local time = redis.call('TIME')
local wanted, least, back, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[5])
local number, into = math.floor(now / window), now % window
local granted, wait, counters = wanted, 0, {}

for n, key in ipairs(KEYS) do
  local limit = tonumber(ARGV[5 + n])
  local stored = redis.call('HMGET', key, 'number', 'count', 'before')
  local at, count, before = tonumber(stored[1]), 0, 0
  if at == number then
    count, before = tonumber(stored[2]), tonumber(stored[3])
  elseif at == number - 1 then
    before = tonumber(stored[2])
  end
  count = math.max(count - back, 0)
  local left = math.floor(limit - count - before * (window - into) / window)
  counters[n] = { key = key, count = count, before = before, left = left }
  granted = math.min(granted, left)
  if left < least then
    local over = least - left
    local slides = before > 0 and over * window / before or window
    if slides > window - into then
      local rest = math.max(count + least - limit, 0)
      slides = window - into + (count > 0 and rest * window / count or 0)
    end
    wait = math.max(wait, slides)
  end
end
if granted < least then granted = 0 end

local answer = { granted, math.ceil(wait), window - into }
for n, c in ipairs(counters) do
  redis.call('HSET', c.key, 'number', number, 'count', c.count + granted, 'before', c.before)
  redis.call('PEXPIRE', c.key, 2 * window)
  answer[3 + n] = math.max(c.left - granted, 0)
end
return answer
