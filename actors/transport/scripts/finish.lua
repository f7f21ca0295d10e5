-- Settle leased bundles and queue what follows from them, in one step: no gap to fall into.
--
-- KEYS[1] = namespace
-- ARGV = queue, lease,
--        number of finished ids, each id,
--        number of dead ids, each id with its message and the reason,
--        number of counts, each name with its amount,
--        then groups of follow-ups: queue, number of bundles, each id with its messages and delay in ms (0: now)
-- Returns how many of the ids were still ours. None: their lease ran out, another worker has
-- them or this very call was made before; then nothing is done.
--
--   $ns:$queue.XQ        sorted set of dead ids by the time (ms) they died
--   $ns:$queue.XQ.msgs   hash of id -> message, as the worker last had it
--   $ns:$queue.XQ.why    hash of id -> one line

local ns, queue, lease = KEYS[1], ARGV[1], ARGV[2]
local full = ns .. ':' .. queue
local leased, messages, crashes = ns .. ':__acks__.' .. lease, full .. '.msgs', full .. '.crashes'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local at = 3
local function take()
    at = at + 1
    return ARGV[at - 1]
end

local settled = {}
for _ = 1, tonumber(take()) do
    local id = take()
    if redis.call('SISMEMBER', leased, id) == 1 then
        settled[#settled + 1] = id
    end
end

for _ = 1, tonumber(take()) do
    local id, message, why = take(), take(), take()
    if redis.call('SREM', leased, id) == 1 then -- first, see prelude.lua
        settled[#settled + 1] = id
        redis.call('ZADD', full .. '.XQ', now, id)
        redis.call('HSET', full .. '.XQ.msgs', id, message)
        redis.call('HSET', full .. '.XQ.why', id, why)
    end
end

if #settled == 0 then
    return 0
end
redis.call('SREM', leased, unpack(settled))
redis.call('HDEL', messages, unpack(settled))
redis.call('DECRBY', full .. '.count', sizes(settled))
if redis.call('EXISTS', crashes) == 1 then
    redis.call('HDEL', crashes, unpack(settled))
end

local counts = ns .. ':counts:' .. math.floor(time[1] / 60)
for _ = 1, tonumber(take()) do
    local name, amount = take(), take()
    redis.call('HINCRBY', counts, name, amount)
end
redis.call('EXPIRE', counts, 86400)

while at <= #ARGV do
    local target = ns .. ':' .. take()
    local queued = 0
    for _ = 1, tonumber(take()) do
        local id, message, delay = take(), take(), tonumber(take())
        queued = queued + redis.call('HSET', target .. '.msgs', id, message) * size(id)
        if delay > 0 then
            redis.call('ZADD', target .. '.delayed', now + delay, id)
        else
            redis.call('RPUSH', target, id)
        end
    end
    redis.call('INCRBY', target .. '.count', queued)
end
return #settled
