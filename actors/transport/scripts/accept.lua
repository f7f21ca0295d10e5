-- Enqueue the bundles of one group of requests, all or none.
--
-- ARGV[1]  { queue, backlog queues, max backlog, max memory percent }
-- ARGV[2]  id of the first bundle; ARGV[3] its bytes; and so on for each bundle. Bundles are not in the msgpack array,
--          because another copy of their bytes would reduce the throughput by a tenth
-- Returns  number of messages enqueued (bundles whose id is already in the queue are not counted), or a rejection:
--          -1 if the backlog queues together hold `max backlog` messages or more,
--          -2 if Redis uses more than `max memory percent` of its maxmemory,
--          -3 if Redis is configured to evict keys, which would lose accepted messages
--
--   $ns:memory   result of the memory check (0, -2 or -3), kept for a second because INFO is slow

local BACKLOG_FULL, MEMORY_FULL, EVICTION_ENABLED = -1, -2, -3

local ns = KEYS[1]
local queue, backlog_queues, max_backlog, max_memory_percent = unpack(cmsgpack.unpack(ARGV[1]))

local function check_memory()
    local memory = redis.call('INFO', 'memory')
    local used, limit = string.match(memory, 'used_memory:(%d+)'), tonumber(string.match(memory, 'maxmemory:(%d+)'))
    if not string.find(memory, 'maxmemory_policy:noeviction', 1, true) then
        return EVICTION_ENABLED
    end
    return limit > 0 and used * 100 > limit * max_memory_percent and MEMORY_FULL or 0
end

local backlog = 0
for _, name in ipairs(backlog_queues) do
    backlog = backlog + tonumber(redis.call('GET', ns .. ':' .. name .. '.count') or 0)
end
if backlog >= max_backlog then
    return BACKLOG_FULL
end

local rejection = tonumber(redis.call('GET', ns .. ':memory'))
if not rejection then
    rejection = check_memory()
    redis.call('SET', ns .. ':memory', rejection, 'PX', 1000)
end
if rejection ~= 0 then
    return rejection
end

local now, accepted = now_ms(), 0
for i = 2, #ARGV, 2 do
    accepted = accepted + enqueue(ns, now, queue, ARGV[i], ARGV[i + 1], 0)
end
add_counts(ns, now, { accepted = accepted })
return accepted
