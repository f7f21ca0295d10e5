-- Replace the rule snapshot, unless a newer one is there already.
--
-- KEYS = snapshot, revision
-- ARGV = the new snapshot, its revision
-- Returns the revision that is now in force.

local current = tonumber(redis.call('GET', KEYS[2]) or '0')
if tonumber(ARGV[2]) <= current then
    return current
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[2])
return tonumber(ARGV[2])
