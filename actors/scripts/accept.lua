-- Queue a request's events, all or none, one message each.
--
-- KEYS[1] = namespace
-- ARGV = queue, most messages that may wait, most per cent of maxmemory that may be used,
--        then an id and a message for each event
-- Returns the number of messages queued; -1 when too many wait, -2 when Redis' memory is too full:
-- the workers still have to write before they can free any of it.
--
--   $ns:$queue        list of the ids that wait, the next one at its head
--   $ns:$queue.msgs   hash of id -> message, until it is acknowledged
--   $ns:full          '1' or '0': whether memory was too full, looked at once a second
--   $ns:counts:$min   hash of what happened in a minute of the epoch

local ns, queue = KEYS[1], ARGV[1]
local messages = ns .. ':' .. queue .. '.msgs'

if redis.call('HLEN', messages) + redis.call('HLEN', ns .. ':evaluate.msgs') >= tonumber(ARGV[2]) then
    return -1
end

local full = redis.call('GET', ns .. ':full')
if not full then
    local memory = redis.call('INFO', 'memory')
    local used, most = string.match(memory, 'used_memory:(%d+)'), tonumber(string.match(memory, 'maxmemory:(%d+)'))
    full = most > 0 and used * 100 > most * ARGV[3] and '1' or '0'
    redis.call('SET', ns .. ':full', full, 'PX', 1000)
end
if full == '1' then
    return -2
end

local accepted = (#ARGV - 3) / 2
local first = 4
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
