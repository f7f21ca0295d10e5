-- Settle leased messages and queue what follows from them, in one step: no gap to fall into.
--
-- KEYS[1] = namespace
-- ARGV = queue, lease,
--        number of finished ids, each id,
--        number of dead ids, each id with its message and the reason,
--        number of counts, each name with its amount,
--        then groups of follow-ups: queue, number of messages, each id with its message and delay in ms (0: now)
-- Returns how many of the messages were still ours. None: their lease ran out, another worker has
-- them or this very call was made before; then nothing is done.
--
--   $ns:$queue.XQ        sorted set of dead ids by the time (ms) they died
--   $ns:$queue.XQ.msgs   hash of id -> message, as the worker last had it
--   $ns:$queue.XQ.why    hash of id -> one line
--   $ns:$queue.deaths    hash of id -> how many workers died while they held it

local ns, queue, lease = KEYS[1], ARGV[1], ARGV[2]
local full = ns .. ':' .. queue
local leased, messages, deaths = ns .. ':__acks__.' .. lease, full .. '.msgs', full .. '.deaths'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local at = 3
local function take()
    at = at + 1
    return ARGV[at - 1]
end

local held = 0
local finished = tonumber(take())
if finished > 0 then
    local last = at + finished - 1
    held = redis.call('SREM', leased, unpack(ARGV, at, last))
    if held > 0 then
        redis.call('HDEL', messages, unpack(ARGV, at, last))
        redis.call('HDEL', deaths, unpack(ARGV, at, last))
    end
    at = last + 1
end

local dead = tonumber(take())
for _ = 1, dead do
    local id, message, why = take(), take(), take()
    if redis.call('SREM', leased, id) == 1 then
        held = held + 1
        redis.call('HDEL', messages, id)
        redis.call('HDEL', deaths, id)
        redis.call('ZADD', full .. '.XQ', now, id)
        redis.call('HSET', full .. '.XQ.msgs', id, message)
        redis.call('HSET', full .. '.XQ.why', id, why)
    end
end

if held == 0 then
    return 0
end

local counts = ns .. ':counts:' .. math.floor(time[1] / 60)
for _ = 1, tonumber(take()) do
    local name, amount = take(), take()
    redis.call('HINCRBY', counts, name, amount)
end
redis.call('EXPIRE', counts, 86400)

while at <= #ARGV do
    local target = ns .. ':' .. take()
    local pairs_, ids = {}, {}
    for _ = 1, tonumber(take()) do
        local id, message, delay = take(), take(), tonumber(take())
        pairs_[#pairs_ + 1] = id
        pairs_[#pairs_ + 1] = message
        if delay > 0 then
            redis.call('ZADD', target .. '.delayed', now + delay, id)
        else
            ids[#ids + 1] = id
        end
    end
    for first = 1, #pairs_, 2000 do
        redis.call('HSET', target .. '.msgs', unpack(pairs_, first, math.min(first + 1999, #pairs_)))
    end
    for first = 1, #ids, 2000 do
        redis.call('RPUSH', target, unpack(ids, first, math.min(first + 1999, #ids)))
    end
end
return held
