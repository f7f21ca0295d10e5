-- Give back what failed together: from now on each of its messages is processed alone.
--
-- KEYS[1] = namespace
-- ARGV = queue, lease, ids
-- Returns how many of the ids were still ours.

local full, leased = KEYS[1] .. ':' .. ARGV[1], KEYS[1] .. ':__acks__.' .. ARGV[2]
local held = 0
for i = 3, #ARGV do
    if redis.call('SREM', leased, ARGV[i]) == 1 then
        redis.call('RPUSH', full .. '.isolated', ARGV[i])
        held = held + 1
    end
end
return held
