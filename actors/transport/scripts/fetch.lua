-- Record the heartbeat of a consumer, enqueue the delayed entries that are due, and lease the next entries.
--
-- ARGV[1]  { queue, lease, max messages (0: lease nothing), whether the consumer is idle: it has no batch in progress }
-- Returns  { state, ms until the next delayed entry is due (-1: none), id, bytes, id, bytes, ... }
--
-- States (actors/transport/consumer.py has the same constants):
--   READY        the entries are leased: at most `max messages` messages, or one bundle that is larger
--   ISOLATED     one isolated entry is leased; it must run alone, because it may crash its worker
--   DRAIN_FIRST  nothing is leased: the next entry is isolated, and the consumer must settle its other batches first
--   SPLIT_FIRST  nothing is leased: the entry is an isolated bundle, which the consumer must split first (split.lua)

local READY, ISOLATED, DRAIN_FIRST, SPLIT_FIRST = 0, 1, 2, 3

local ns = KEYS[1]
local queue, lease, max_messages, is_idle = unpack(cmsgpack.unpack(ARGV[1]))
local full = ns .. ':' .. queue
local messages, delayed, isolated = full .. '.msgs', full .. '.delayed', full .. '.isolated'

local function enqueue_due(now)
    local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 1000)
    if due[1] then
        redis.call('RPUSH', full, unpack(due))
        redis.call('ZREM', delayed, unpack(due))
    end
    local next_due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
    return next_due and math.max(0, next_due - now) or -1
end

-- Return the first isolated entry and its bytes. Remove ids without bytes: their entries are already settled.
local function first_isolated()
    local id = redis.call('LINDEX', isolated, 0)
    local data = id and redis.call('HGET', messages, id)
    while id and not data do
        redis.call('LPOP', isolated)
        redis.call('HDEL', full .. '.crashes', id)
        id = redis.call('LINDEX', isolated, 0)
        data = id and redis.call('HGET', messages, id)
    end
    return id, data
end

local function pop_waiting()
    local ids = redis.call('LRANGE', full, 0, max_messages - 1)
    local count, sum = 0, 0
    while ids[count + 1] and (count == 0 or sum + size(ids[count + 1]) <= max_messages) do
        count = count + 1
        sum = sum + size(ids[count])
    end
    return count > 0 and redis.call('LPOP', full, count) or {}
end

bypass_oom(ns)
local now = now_ms()
redis.call('ZADD', ns .. ':__heartbeats__', now, lease)
local next_due_ms = enqueue_due(now)
if max_messages == 0 then
    return { READY, next_due_ms }
end

local id, data = first_isolated()
if id then
    if not is_idle then
        return { DRAIN_FIRST, next_due_ms }
    end
    if is_bundle(id) then
        return { SPLIT_FIRST, next_due_ms, id, data }
    end
    redis.call('LPOP', isolated)
    redis.call('SADD', ns .. ':__acks__.' .. lease, id)
    return { ISOLATED, next_due_ms, id, data }
end

local reply, ids, leased = { READY, next_due_ms }, pop_waiting(), {}
if not ids[1] then
    return reply
end
for i, bytes in ipairs(redis.call('HMGET', messages, unpack(ids))) do
    if bytes then -- an entry without bytes is already settled
        leased[#leased + 1] = ids[i]
        reply[#reply + 1] = ids[i]
        reply[#reply + 1] = bytes
    end
end
if leased[1] then
    redis.call('SADD', ns .. ':__acks__.' .. lease, unpack(leased))
end
return reply
