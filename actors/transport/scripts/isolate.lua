-- Return the entries of a failed batch to the queue as isolated: from now on each of their messages runs alone.
--
-- ARGV[1]  { queue, lease, { id, ... } }
-- Returns  number of entries that were still leased

local ns = KEYS[1]
local queue, lease, ids = unpack(cmsgpack.unpack(ARGV[1]))

bypass_oom(ns)
local isolated = 0
for _, id in ipairs(ids) do
    if redis.call('SREM', ns .. ':__acks__.' .. lease, id) == 1 then
        redis.call('RPUSH', ns .. ':' .. queue .. '.isolated', id)
        isolated = isolated + 1
    end
end
return isolated
