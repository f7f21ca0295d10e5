-- Lease the next bundles of a queue to a consumer, and tell that the consumer is alive.
--
-- KEYS[1] = namespace
-- ARGV = queue, lease, most messages (0: only the heartbeat), 1 when the consumer holds nothing else
-- Returns { mode, ms until the next delayed message falls due (-1: none), id, messages, ... }
-- mode 1: the one message is a suspect; 2: a suspect waits until this consumer holds nothing else; else 0
--
--   $ns:__heartbeats__     sorted set of leases by the time (ms) their consumers last called
--   $ns:__acks__.$lease    set of the ids leased and not yet acknowledged
--   $ns:$queue.isolated    list of the ids that two workers died with, or whose batch failed
--   $ns:$queue.crashes      hash of id -> how many workers died while they held it
--
-- All times are Redis' own, so that the clocks of the workers do not matter.
-- A suspect may be what killed its worker: it is handed out alone, so that it takes nobody along; a suspect
-- bundle is taken apart for that. But for one that is larger, no more than `most` messages are leased at once.

local ns, queue, lease = KEYS[1], ARGV[1], ARGV[2]
local most, idle = tonumber(ARGV[3]), ARGV[4] == '1'
local full = ns .. ':' .. queue
local messages, leased, delayed, isolated = full .. '.msgs', ns .. ':__acks__.' .. lease, full .. '.delayed', full .. '.isolated'

redis.call('DEL', ns .. ':oom_bypass') -- lets a full Redis go on, see prelude.lua
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', ns .. ':__heartbeats__', now, lease)

local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 1000)
if due[1] then
    redis.call('RPUSH', full, unpack(due))
    redis.call('ZREM', delayed, unpack(due))
end
local upcoming = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local wait = upcoming[2] and math.max(0, upcoming[2] - now) or -1

if most == 0 then
    return { 0, wait }
end

-- The messages of a bundle become entries of their own, in its place at the head of the isolated.
local function split_bundle(bundle)
    local head, parts = nil, {}
    -- Of those who died with all of it a part has but one: it has to earn its own, for most parts are innocent.
    local crashes = redis.call('HGET', full .. '.crashes', bundle)
    crashes = crashes and size(bundle) > 1 and 1 or crashes
    local data = redis.call('HGET', messages, bundle)
    if not data then -- it was acknowledged by a worker that had lost its lease
        redis.call('HDEL', full .. '.crashes', bundle)
        return
    end
    for line in string.gmatch(data, '[^\n]+') do
        if head then
            local id = #parts + 1 .. '.' .. bundle
            local options, argument = string.match(line, '^(%S+) (.*)$')
            if options then -- else it is unreadable, and is to be kept as it is
                line = head .. ',"message_id":"' .. id .. '","options":' .. options .. ',"args":[' .. argument .. ']}'
            end
            parts[#parts + 1] = id
            redis.call('HSET', messages, id, line)
            if crashes then
                redis.call('HSET', full .. '.crashes', id, crashes)
            end
        end
        head = head or line
    end
    if #parts == 0 then -- it is no bundle at all: its bytes are kept as those of one message that nobody can read
        parts[1] = '1.' .. bundle
        redis.call('HSET', messages, parts[1], data)
        if crashes then
            redis.call('HSET', full .. '.crashes', parts[1], crashes)
        end
    end
    for i = #parts, 1, -1 do
        redis.call('LPUSH', isolated, parts[i])
    end
    redis.call('HDEL', messages, bundle)
    redis.call('HDEL', full .. '.crashes', bundle)
    redis.call('INCRBY', full .. '.count', #parts - size(bundle))
end

local suspect, ids = 0, nil
if redis.call('EXISTS', isolated) == 1 then
    if not idle then
        return { 2, wait }
    end
    while is_bundle(redis.call('LINDEX', isolated, 0) or '') do
        split_bundle(redis.call('LPOP', isolated))
    end
    suspect, ids = 1, redis.call('LPOP', isolated, 1)
else
    ids = redis.call('LRANGE', full, 0, most - 1)
    local count, sum = 0, 0
    while ids[count + 1] and (count == 0 or sum + size(ids[count + 1]) <= most) do
        count = count + 1
        sum = sum + size(ids[count])
    end
    ids = count > 0 and redis.call('LPOP', full, count)
end
if not ids then
    return { 0, wait }
end

local reply, taken = { suspect, wait }, {}
for i, message in ipairs(redis.call('HMGET', messages, unpack(ids))) do
    if message then -- an id without a message was acknowledged by a worker that had lost its lease
        taken[#taken + 1] = ids[i]
        reply[#reply + 1] = ids[i]
        reply[#reply + 1] = message
    end
end
if taken[1] then
    redis.call('SADD', leased, unpack(taken))
end
return reply
