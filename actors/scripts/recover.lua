-- Take back what dead workers held. Whoever does not call for the length of the timeout is dead.
--
-- KEYS[1] = namespace
-- ARGV = timeout in ms, how many deaths one message may cause
-- Returns { messages that will run again, messages put among the dead }
--
-- A lease is named `queue|worker.number`. A message that was held by too many dying workers is taken
-- for what kills them, and is dead-lettered as it is.

local ns, most = KEYS[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local heartbeats = ns .. ':__heartbeats__'
local again, dead = 0, 0
redis.call('DEL', ns .. ':nothing') -- lets a full Redis go on, see bundle.lua

-- Nobody could call while Redis was away: those who live are given time to.
local uptime = string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)')
if uptime * 1000 < tonumber(ARGV[1]) then
    return { 0, 0 }
end

for _, lease in ipairs(redis.call('ZRANGEBYSCORE', heartbeats, '-inf', now - ARGV[1])) do
    local full = ns .. ':' .. string.match(lease, '^(.-)|')
    local leased = ns .. ':__acks__.' .. lease
    for _, id in ipairs(redis.call('SMEMBERS', leased)) do
        local message = redis.call('HGET', full .. '.msgs', id)
        if message then
            local died = redis.call('HINCRBY', full .. '.deaths', id, 1)
            if died < most then -- so it is with a bundle, which is taken apart before it is given out again
                redis.call('RPUSH', full .. '.suspects', id)
                again = again + size(id)
            else
                redis.call('HDEL', full .. '.msgs', id)
                redis.call('HDEL', full .. '.deaths', id)
                redis.call('DECRBY', full .. '.count', 1)
                redis.call('ZADD', full .. '.XQ', now, id)
                redis.call('HSET', full .. '.XQ.msgs', id, message)
                redis.call('HSET', full .. '.XQ.why', id, died .. ' workers died while they held this message')
                dead = dead + 1
            end
        end
    end
    redis.call('DEL', leased)
    redis.call('ZREM', heartbeats, lease)
end
if dead > 0 then
    local counts = ns .. ':counts:' .. math.floor(time[1] / 60)
    redis.call('HINCRBY', counts, 'dead', dead)
    redis.call('EXPIRE', counts, 86400)
end
return { again, dead }
