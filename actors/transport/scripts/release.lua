-- Release the leases of a consumer that stops: entries return to the head of their list with unchanged crash counts.
--
-- ARGV[1]  { queue, lease }
-- Returns  number of messages released

local ns = KEYS[1]
local queue, lease = unpack(cmsgpack.unpack(ARGV[1]))
local full, leased = ns .. ':' .. queue, ns .. ':__acks__.' .. lease

bypass_oom(ns)
local released = 0
for _, id in ipairs(redis.call('SMEMBERS', leased)) do
    if redis.call('HEXISTS', full .. '.msgs', id) == 1 then
        local alone = is_isolated(id, redis.call('HGET', full .. '.crashes', id))
        redis.call('LPUSH', alone and full .. '.isolated' or full, id)
        released = released + size(id)
    end
end
redis.call('DEL', leased)
redis.call('ZREM', ns .. ':__heartbeats__', lease)
return released
