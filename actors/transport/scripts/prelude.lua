-- Functions of the queue scripts; this text is prepended to each script.
--
-- KEYS[1]  namespace: the prefix of every key, `$ns` below
-- ARGV[1]  msgpack array of the arguments, which each script lists in its header; accept.lua has further arguments
--
-- Keys that more than one script uses:
--
--   $ns:$queue            list of the ids of waiting entries; the next entry is at the head
--   $ns:$queue.msgs       hash of entry id -> bytes of the entry, until it is acknowledged
--   $ns:$queue.count      number of messages in $queue.msgs
--   $ns:$queue.delayed    sorted set of entry ids, by the time (ms) when they are due
--   $ns:$queue.isolated   list of the ids of isolated entries: a message must run alone, a bundle must be split first
--   $ns:$queue.crashes    hash of entry id -> crash count: number of worker crashes while the entry was leased
--   $ns:$queue.XQ         sorted set of the ids of dead letters, by the time (ms) when they were dead-lettered
--   $ns:$queue.XQ.msgs    hash of dead letter id -> bytes of the message after its last attempt
--   $ns:$queue.XQ.why     hash of dead letter id -> reason, one line
--   $ns:__heartbeats__    sorted set of leases, by the time (ms) of their last heartbeat
--   $ns:__acks__.$lease   set of the ids of the entries that one consumer leases; `$lease` is `queue|worker.number`
--   $ns:counts:$minute    hash of counter -> amount during one minute; $minute is the number of minutes since the Unix
--                         epoch; expires after a day
--
-- An entry is one message, or a bundle of messages; its id shows which (see actors/transport/entry_id.py):
-- `9f3c` is one message, `100*9f3c` a bundle of 100, `7.100*9f3c` the 7th message of a bundle that was split.
--
-- All times are read from the clock of Redis, because the clocks of the workers may differ.

local function now_ms()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Let the script write although Redis is full. A full Redis rejects commands that may need memory, but only before the
-- first write of a script; so the script first deletes a key that does not exist. Scripts that settle, release or lease
-- entries must run, because without them the workers could not free the memory of a full Redis.
local function bypass_oom(ns)
    redis.call('DEL', ns .. ':oom_bypass')
end

local function is_bundle(id)
    return string.find(id, '^%d+%*') ~= nil
end

-- Return the number of messages of an entry.
local function size(id)
    return tonumber(string.match(id, '^(%d+)%*')) or 1
end

local function sizes(ids)
    local sum = 0
    for _, id in ipairs(ids) do
        sum = sum + size(id)
    end
    return sum
end

-- Return whether an entry must be isolated: it is a message of a bundle that was split, or its crash count is at least
-- 2. One crash is not enough, because most crashes are not caused by a message.
local function is_isolated(id, crashes)
    return tonumber(crashes or 0) >= 2 or string.find(id, '^%d+%.') ~= nil
end

-- Store an entry that is due in `delay_ms`. Return the number of messages added: 0 if the id is already in the queue.
local function enqueue(ns, now, queue, id, data, delay_ms)
    local full = ns .. ':' .. queue
    if redis.call('HSETNX', full .. '.msgs', id, data) == 0 then
        return 0
    end
    if delay_ms > 0 then
        redis.call('ZADD', full .. '.delayed', now + delay_ms, id)
    else
        redis.call('RPUSH', full, id)
    end
    redis.call('INCRBY', full .. '.count', size(id))
    return size(id)
end

local function add_counts(ns, now, counts)
    local key = ns .. ':counts:' .. math.floor(now / 60000)
    for name, amount in pairs(counts) do
        redis.call('HINCRBY', key, name, amount)
    end
    redis.call('EXPIRE', key, 86400)
end

local function add_dead_letter(ns, now, queue, id, message, why)
    local full = ns .. ':' .. queue
    redis.call('ZADD', full .. '.XQ', now, id)
    redis.call('HSET', full .. '.XQ.msgs', id, message)
    redis.call('HSET', full .. '.XQ.why', id, why)
    add_counts(ns, now, { dead = 1 })
end
