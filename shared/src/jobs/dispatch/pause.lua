-- KEYS ready ring paused   ARGV tenant
-- Drops the tenant's tickets, and takes no more.
local ready, ring, paused = unpack(KEYS)
local tenant = ARGV[1]
redis.call('SADD', paused, tenant)
redis.call('ZREMRANGEBYLEX', ready, '[' .. tenant, '[' .. tenant .. string.rep('\255', 18))
redis.call('ZREM', ring, tenant)
