-- Queue a request's events, all or none, one message each.
--
-- KEYS[1] = namespace
-- ARGV = queue, most messages that may wait, then an id and a message for each event
-- Returns the number of messages queued, or -1 when the backlog is above its high-water mark.
--
--   $ns:$queue        list of the ids that wait, the next one at its head
--   $ns:$queue.msgs   hash of id -> message, until it is acknowledged
--   $ns:counts:$min   hash of what happened in a minute of the epoch

local ns, queue = KEYS[1], ARGV[1]
local messages = ns .. ':' .. queue .. '.msgs'

if redis.call('HLEN', messages) + redis.call('HLEN', ns .. ':evaluate.msgs') >= tonumber(ARGV[2]) then
    return -1
end

local accepted = (#ARGV - 2) / 2
local first = 3
while first < #ARGV do
    local last = math.min(first + 1999, #ARGV)
    local ids = {}
    for i = first, last, 2 do
        ids[#ids + 1] = ARGV[i]
    end
    redis.call('HSET', messages, unpack(ARGV, first, last))
    redis.call('RPUSH', ns .. ':' .. queue, unpack(ids))
    first = last + 1
end

local counts = ns .. ':counts:' .. math.floor(redis.call('TIME')[1] / 60)
redis.call('HINCRBY', counts, 'accepted', accepted)
redis.call('EXPIRE', counts, 86400)
return accepted
