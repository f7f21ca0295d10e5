-- Requeue the entries of expired consumers, and dead-letter the messages whose crash count has reached the maximum.
--
-- ARGV[1]  { heartbeat timeout in ms, max crash count of a message, max ms between two calls without a grace period }
-- Returns  { messages requeued, messages dead-lettered }
--
--   $ns:__last_recovery__   time (ms) of the previous call of this script
--   $ns:__grace__           while it exists, no lease is recovered

local ns = KEYS[1]
local timeout, max_crashes, max_gap = unpack(cmsgpack.unpack(ARGV[1]))
local heartbeats = ns .. ':__heartbeats__'
local now, requeued, dead = now_ms(), 0, 0

-- Return whether leases must not be recovered yet. A long gap between two calls means that Redis was unavailable and
-- received no heartbeats. The grace period gives healthy consumers the time to send a heartbeat.
local function is_grace_period()
    local last = redis.call('GET', ns .. ':__last_recovery__')
    redis.call('SET', ns .. ':__last_recovery__', now)
    if timeout > 0 and (not last or now - last > max_gap) then
        redis.call('SET', ns .. ':__grace__', '', 'PX', timeout)
    end
    return redis.call('EXISTS', ns .. ':__grace__') == 1
end

local function recover_entry(queue, id)
    local full = ns .. ':' .. queue
    local data = redis.call('HGET', full .. '.msgs', id)
    if not data then
        return
    end
    local crashes = redis.call('HINCRBY', full .. '.crashes', id, 1)
    if crashes >= max_crashes then -- never true for a bundle, which is isolated and split after two crashes
        redis.call('HDEL', full .. '.msgs', id)
        redis.call('HDEL', full .. '.crashes', id)
        redis.call('DECRBY', full .. '.count', size(id))
        add_dead_letter(ns, now, queue, id, data, crashes .. ' workers crashed while they processed this message')
        dead = dead + 1
    elseif is_isolated(id, crashes) then
        -- Append: at the head, an entry that crashes every worker would delay the other isolated entries.
        redis.call('RPUSH', full .. '.isolated', id)
        requeued = requeued + size(id)
    else
        redis.call('LPUSH', full, id)
        requeued = requeued + size(id)
    end
end

bypass_oom(ns)
if is_grace_period() then
    return { 0, 0 }
end
for _, lease in ipairs(redis.call('ZRANGEBYSCORE', heartbeats, '-inf', now - timeout)) do
    local queue, leased = string.match(lease, '^(.-)|') or '', ns .. ':__acks__.' .. lease
    local ids = redis.call('SMEMBERS', leased)
    redis.call('ZREM', heartbeats, lease)
    redis.call('DEL', leased)
    for _, id in ipairs(ids) do
        recover_entry(queue, id)
    end
end
return { requeued, dead }
