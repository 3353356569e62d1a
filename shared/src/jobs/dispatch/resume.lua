-- KEYS admit admit:wake paused afresh   ARGV tenant, lane...
-- Takes the tenant's tickets again, and asks the scheduler for all its lanes: from their heads, since the pause has dropped
-- tickets of theirs.
local admit, admit_wake, paused, afresh = unpack(KEYS)
redis.call('SREM', paused, ARGV[1])
redis.call('SADD', afresh, unpack(ARGV, 2))
redis.call('SADD', admit, unpack(ARGV, 2))
redis.call('LPUSH', admit_wake, '')
