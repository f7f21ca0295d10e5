-- Queue one message or bundle, now or after a delay.
--
-- KEYS[1] = namespace
-- ARGV = queue, id, message, delay in ms (0: now)
--
--   $ns:$queue.delayed   sorted set of ids by the time (ms) they fall due; their messages are in $queue.msgs

local full = KEYS[1] .. ':' .. ARGV[1]
local id, delay = ARGV[2], tonumber(ARGV[4])

redis.call('INCRBY', full .. '.count', redis.call('HSET', full .. '.msgs', id, ARGV[3]) * size(id))
if delay > 0 then
    local time = redis.call('TIME')
    redis.call('ZADD', full .. '.delayed', time[1] * 1000 + math.floor(time[2] / 1000) + delay, id)
else
    redis.call('RPUSH', full, id)
end
