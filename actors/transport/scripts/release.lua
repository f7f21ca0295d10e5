-- Give back what a consumer still holds, when it stops in order: first in line again, and no new suspicion.
--
-- KEYS[1] = namespace
-- ARGV = queue, lease
-- Returns the number of messages given back.

local ns = KEYS[1]
local full, leased = ns .. ':' .. ARGV[1], ns .. ':__acks__.' .. ARGV[2]
local given, held = 0, redis.call('SMEMBERS', leased)
redis.call('DEL', leased) -- first, see prelude.lua
for _, id in ipairs(held) do
    if redis.call('HEXISTS', full .. '.msgs', id) == 1 then
        local suspect = is_isolated(id, redis.call('HGET', full .. '.crashes', id))
        redis.call('LPUSH', suspect and full .. '.isolated' or full, id)
        given = given + size(id)
    end
end
redis.call('ZREM', ns .. ':__heartbeats__', ARGV[2])
return given
