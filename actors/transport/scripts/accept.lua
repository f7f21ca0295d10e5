-- Queue a request's events, all or none.
--
-- KEYS[1] = namespace
-- ARGV = queue, most messages that may wait, most per cent of maxmemory that may be used,
--        then an id and the messages of each bundle
-- Returns the number of messages queued; -1 when too many wait; -2 when Redis' memory is too full; -3 when Redis would
-- evict messages rather than refuse them.
--
--   $ns:$queue        list of the ids that wait, the next one at its head
--   $ns:$queue.msgs   hash of id -> messages, until they are acknowledged
--   $ns:$queue.count  how many messages $queue.msgs holds
--   $ns:memory        '0', or the -2 or -3 that memory made us answer when it was looked at, once a second
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

local refusal = redis.call('GET', ns .. ':memory')
if not refusal then
    local memory = redis.call('INFO', 'memory')
    local used, most = string.match(memory, 'used_memory:(%d+)'), tonumber(string.match(memory, 'maxmemory:(%d+)'))
    local keeps = string.find(memory, 'maxmemory_policy:noeviction', 1, true)
    refusal = not keeps and '-3' or most > 0 and used * 100 > most * ARGV[3] and '-2' or '0'
    redis.call('SET', ns .. ':memory', refusal, 'PX', 1000)
end
if refusal ~= '0' then
    return tonumber(refusal)
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
