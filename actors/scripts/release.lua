-- Give back what a consumer still holds, when it stops in order: first in line again, and no new suspicion.
--
-- KEYS[1] = namespace
-- ARGV = queue, lease
-- Returns the number of messages given back.

local ns = KEYS[1]
local full, leased = ns .. ':' .. ARGV[1], ns .. ':__acks__.' .. ARGV[2]
local given, held = 0, redis.call('SMEMBERS', leased)
redis.call('DEL', leased) -- first, see bundle.lua
for _, id in ipairs(held) do
    if redis.call('HEXISTS', full .. '.msgs', id) == 1 then
        -- a part of a bundle that was taken apart is under suspicion still
        local suspect = string.find(id, '^%d+%.') or redis.call('HEXISTS', full .. '.deaths', id) == 1
        redis.call('LPUSH', suspect and full .. '.suspects' or full, id)
        given = given + size(id)
    end
end
redis.call('ZREM', ns .. ':__heartbeats__', ARGV[2])
return given
