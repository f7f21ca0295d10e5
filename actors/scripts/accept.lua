-- Queue a request's events, all or none.
--
-- KEYS[1] = namespace
-- ARGV = queue, most messages that may wait, most per cent of maxmemory that may be used,
--        then an id and the messages of each bundle
-- Returns the number of messages queued; -1 when too many wait, -2 when Redis' memory is too full:
-- the workers still have to write before they can free any of it.
--
--   $ns:$queue        list of the ids that wait, the next one at its head
--   $ns:$queue.msgs   hash of id -> messages, until they are acknowledged
--   $ns:$queue.count  how many messages $queue.msgs holds
--   $ns:full          '1' or '0': whether memory was too full, looked at once a second
--   $ns:counts:$min   hash of what happened in a minute of the epoch

local ns, queue = KEYS[1], ARGV[1]
local full = ns .. ':' .. queue

local backlog = 0
for _, count in ipairs({ redis.call('GET', full .. '.count'), redis.call('GET', ns .. ':evaluate.count') }) do
    backlog = backlog + tonumber(count or 0)
end
if backlog >= tonumber(ARGV[2]) then
    return -1
end

local memory_full = redis.call('GET', ns .. ':full')
if not memory_full then
    local memory = redis.call('INFO', 'memory')
    local used, most = string.match(memory, 'used_memory:(%d+)'), tonumber(string.match(memory, 'maxmemory:(%d+)'))
    memory_full = most > 0 and used * 100 > most * ARGV[3] and '1' or '0'
    redis.call('SET', ns .. ':full', memory_full, 'PX', 1000)
end
if memory_full == '1' then
    return -2
end

local accepted = 0
for i = 4, #ARGV, 2 do
    if redis.call('HSET', full .. '.msgs', ARGV[i], ARGV[i + 1]) == 1 then
        redis.call('RPUSH', full, ARGV[i])
        accepted = accepted + size(ARGV[i])
    end
end
redis.call('INCRBY', full .. '.count', accepted)

local counts = ns .. ':counts:' .. math.floor(redis.call('TIME')[1] / 60)
redis.call('HINCRBY', counts, 'accepted', accepted)
redis.call('EXPIRE', counts, 86400)
return accepted
