-- KEYS ready ring wake full admit admit:wake   ARGV limit, low_water, share, (tenant, its share)...
-- Takes up to `limit` tickets: the tenants by turns, each its highest priority first, then its oldest.
local ready, ring, wake, full, admit, admit_wake = unpack(KEYS)
local limit, low_water, share = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local left, last = {}, string.rep('\255', 18)
for i = 4, #ARGV, 2 do left[ARGV[i]] = tonumber(ARGV[i + 1]) end

local tenants = redis.call('ZCARD', ring)
if tenants == 0 then return {} end
local quantum = math.max(1, math.floor(limit / tenants))
local turn = tonumber(redis.call('ZRANGE', ring, -1, -1, 'WITHSCORES')[2])
local out, lanes, passed = {}, {}, 0

-- A tenant that has had its share passes; the round is over when all that are left do.
while #out < limit and passed < tenants do
  local tenant = redis.call('ZRANGE', ring, 0, 0)[1]
  if not tenant then break end
  turn = turn + 1
  local want = math.min(quantum, limit - #out, left[tenant] or share)
  if want <= 0 then
    passed = passed + 1
    redis.call('ZADD', ring, turn, tenant)
  else
    passed = 0
    local got = redis.call('ZRANGEBYLEX', ready, '[' .. tenant, '[' .. tenant .. last, 'LIMIT', 0, want)
    if #got > 0 then redis.call('ZREM', ready, unpack(got)) end
    for i = 1, #got do
      out[#out + 1] = got[i]
      lanes[string.sub(got[i], 1, 17)] = true
    end
    left[tenant] = (left[tenant] or share) - #got
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
    redis.call('LPUSH', admit_wake, '')
  end
end
-- More is left: the next idle worker need not wait for the next offer.
if #out > 0 and tenants > 0 and redis.call('LLEN', wake) == 0 then redis.call('LPUSH', wake, '') end
return out
