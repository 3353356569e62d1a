-- KEYS ready ring wake full admit   ARGV limit, low_water, tenant to skip...
-- Takes up to `limit` tickets: the tenants by turns, each its highest priority first, then its oldest.
local ready, ring, wake, full, admit = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local limit, low_water = tonumber(ARGV[1]), tonumber(ARGV[2])
local skip, last = {}, string.rep('\255', 18)
for i = 3, #ARGV do skip[ARGV[i]] = true end

local tenants = redis.call('ZCARD', ring)
if tenants == 0 then return {} end
local share = math.max(1, math.floor(limit / tenants))
local turn = tonumber(redis.call('ZRANGE', ring, -1, -1, 'WITHSCORES')[2])
local out, lanes, skipped = {}, {}, 0

for _ = 1, tenants + limit do
  if #out >= limit or skipped >= tenants then break end
  local tenant = redis.call('ZRANGE', ring, 0, 0)[1]
  if not tenant then break end
  turn = turn + 1
  if skip[tenant] then
    skipped = skipped + 1
    redis.call('ZADD', ring, turn, tenant)
  else
    local want = math.min(share, limit - #out)
    local got = redis.call('ZRANGEBYLEX', ready, '[' .. tenant, '[' .. tenant .. last, 'LIMIT', 0, want)
    for i = 1, #got, 1000 do
      redis.call('ZREM', ready, unpack(got, i, math.min(i + 999, #got)))
    end
    for i = 1, #got do
      out[#out + 1] = got[i]
      lanes[string.sub(got[i], 1, 17)] = true
    end
    if #got < want then
      redis.call('ZREM', ring, tenant)
      tenants = tenants - 1
    else
      redis.call('ZADD', ring, turn, tenant)
    end
  end
end

for lane in pairs(lanes) do
  if redis.call('SISMEMBER', full, lane) == 1
    and redis.call('ZLEXCOUNT', ready, '[' .. lane, '[' .. lane .. last) < low_water
    and redis.call('SADD', admit, lane) == 1 then
    redis.call('LPUSH', admit .. ':wake', '')
  end
end
-- More is left: the next idle worker need not wait for the next offer.
if #out > 0 and tenants > skipped and redis.call('LLEN', wake) == 0 then redis.call('LPUSH', wake, '') end
return out
