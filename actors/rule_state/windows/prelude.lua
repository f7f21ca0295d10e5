-- Functions of the scripts that write the state of rules; this text is prepended to each script.
--
-- Keys are kept longer than their rules need them, because events can arrive late after an outage and can be delivered
-- again. But rules with very many groups must not fill Redis, because ingest would then reject all events.
-- The retention becomes shorter when Redis uses more than half of maxmemory. From 65 per cent on (by default, ingest
-- rejects above 80 per cent), keys have the minimum retention, so that the counts for late events may be too low.
--
-- The keys of windows are not passed in KEYS, because a call uses many keys and only Redis Cluster requires KEYS.

local GRACE, MIN_GRACE = 3600, 180 -- seconds; the minimum is longer than the recovery and retry of a lost batch
local AMPLE, SCARCE = 0.50, 0.65 -- used shares of maxmemory
local room -- number from 0 (memory is scarce) to 1 (memory is ample), computed once for each call

-- Let the script write to a full Redis; see ../../transport/scripts/prelude.lua.
local function bypass_oom()
    redis.call('DEL', 'eventpulse:oom_bypass')
end

-- Expire a key after `min` to `max` seconds, depending on the free memory of Redis.
local function retain(key, min, max)
    if not room then
        local memory = redis.call('INFO', 'memory')
        local used, limit = string.match(memory, 'used_memory:(%d+)'), string.match(memory, 'maxmemory:(%d+)')
        local share = limit == '0' and 0 or used / limit
        room = math.max(0, math.min(1, (SCARCE - share) / (SCARCE - AMPLE)))
    end
    redis.call('EXPIRE', key, math.ceil(min + room * (max - min)))
end
