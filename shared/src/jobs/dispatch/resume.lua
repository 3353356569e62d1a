-- KEYS admit admit:wake paused   ARGV tenant, lane...
-- Takes the tenant's tickets again, and asks the scheduler for all its lanes.
local admit, admit_wake, paused = unpack(KEYS)
redis.call('SREM', paused, ARGV[1])
redis.call('SADD', admit, unpack(ARGV, 2))
redis.call('LPUSH', admit_wake, '')
