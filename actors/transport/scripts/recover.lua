-- Take back what dead workers held. Whoever does not call for the length of the timeout is dead.
--
-- KEYS[1] = namespace
-- ARGV = timeout in ms, how many crashes one message may cause, the longest time in ms between two calls of this
-- Returns { messages that will run again, messages put among the dead }
--
--   $ns:__last_recovery__   when this was called last, in ms
--   $ns:__grace__    exists while nobody is taken for dead
--
-- A lease is named `queue|worker.number`. A message that was held by too many dying workers is taken
-- for what kills them, and is dead-lettered as it is.

local ns, most = KEYS[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local heartbeats = ns .. ':__heartbeats__'
local again, dead = 0, 0

-- Nobody could call while Redis was away or stood still, nor this script: those who live are given time to.
local timeout, last = tonumber(ARGV[1]), redis.call('GET', ns .. ':__last_recovery__')
redis.call('DEL', ns .. ':__last_recovery__') -- first, see prelude.lua
redis.call('SET', ns .. ':__last_recovery__', now)
if timeout > 0 and (not last or now - last > tonumber(ARGV[3])) then
    redis.call('SET', ns .. ':__grace__', '', 'PX', timeout)
end
if redis.call('EXISTS', ns .. ':__grace__') == 1 then
    return { 0, 0 }
end

for _, lease in ipairs(redis.call('ZRANGEBYSCORE', heartbeats, '-inf', now - ARGV[1])) do
    local full = ns .. ':' .. (string.match(lease, '^(.-)|') or '')
    local leased = ns .. ':__acks__.' .. lease
    local held = redis.call('SMEMBERS', leased)
    redis.call('ZREM', heartbeats, lease)
    redis.call('DEL', leased)
    for _, id in ipairs(held) do
        local message = redis.call('HGET', full .. '.msgs', id)
        if message then
            local died = redis.call('HINCRBY', full .. '.crashes', id, 1)
            if died < most then -- so it is with a bundle, which is taken apart before it is given out a third time
                if is_isolated(id, died) then
                    redis.call('RPUSH', full .. '.isolated', id) -- last, lest the same one is in hand at every death
                else
                    redis.call('LPUSH', full, id)
                end
                again = again + size(id)
            else
                redis.call('HDEL', full .. '.msgs', id)
                redis.call('HDEL', full .. '.crashes', id)
                redis.call('DECRBY', full .. '.count', 1)
                redis.call('ZADD', full .. '.XQ', now, id)
                redis.call('HSET', full .. '.XQ.msgs', id, message)
                redis.call('HSET', full .. '.XQ.why', id, died .. ' workers died while they held this message')
                dead = dead + 1
            end
        end
    end
end
if dead > 0 then
    local counts = ns .. ':counts:' .. math.floor(time[1] / 60)
    redis.call('HINCRBY', counts, 'dead', dead)
    redis.call('EXPIRE', counts, 86400)
end
return { again, dead }
