-- Settle the leased entries of a batch and enqueue the messages of its outbox, in one atomic step.
--
-- ARGV[1]  { queue, lease, { finished id, ... }, { { dead letter id, bytes, reason }, ... }, { counter = amount, ... },
--            { { queue, entry id, bytes, delay in ms (0: now) }, ... } }
-- Returns  number of entries that were still leased; if it is 0, nothing is changed: the lease was recovered, or an
--          earlier identical call has settled the entries and its reply was lost.

local ns = KEYS[1]
local queue, lease, ids, dead, counts, follow_ups = unpack(cmsgpack.unpack(ARGV[1]))
local full, leased = ns .. ':' .. queue, ns .. ':__acks__.' .. lease
local now = now_ms()

local function end_lease(id)
    return redis.call('SREM', leased, id) == 1
end

bypass_oom(ns)
local settled = {}
for _, id in ipairs(ids) do
    if end_lease(id) then
        settled[#settled + 1] = id
    end
end
for _, letter in ipairs(dead) do
    if end_lease(letter[1]) then
        settled[#settled + 1] = letter[1]
        add_dead_letter(ns, now, queue, unpack(letter))
    end
end
if #settled == 0 then
    return 0
end

redis.call('HDEL', full .. '.msgs', unpack(settled))
redis.call('DECRBY', full .. '.count', sizes(settled))
if redis.call('EXISTS', full .. '.crashes') == 1 then
    redis.call('HDEL', full .. '.crashes', unpack(settled))
end
add_counts(ns, now, counts)
for _, follow_up in ipairs(follow_ups) do
    enqueue(ns, now, unpack(follow_up))
end
return #settled
