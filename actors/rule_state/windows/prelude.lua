-- Functions of the scripts that write the state of rules; this text is prepended to each of them.
--
-- Keys are kept for longer than their rule needs them, because events can arrive late after an outage and can be
-- delivered again. High-cardinality groups must not fill Redis, because then ingest would reject all events: above
-- half of maxmemory the retention becomes shorter. From 65 per cent on (by default, ingest rejects at 80) a window
-- lives little longer than it is wide, and a late event may find fewer neighbours in it.
--
-- The keys of windows are not declared: they are on one server, and a call needs many of them.

local GRACE, LEAST_GRACE = 3600, 180 -- seconds; the least is longer than the recovery and retry of a lost batch
local AMPLE, SCARCE = 0.50, 0.65 -- shares of maxmemory
local room -- 1 if memory is ample, 0 if it is scarce; read once for each call

-- Let the script write to a full Redis, see ../../transport/scripts/prelude.lua.
local function bypass_oom()
    redis.call('DEL', 'eventpulse:oom_bypass')
end

-- Expire a key between `least` and `most` seconds from now, depending on the memory that is left.
local function retain(key, least, most)
    if not room then
        local memory = redis.call('INFO', 'memory')
        local used, limit = string.match(memory, 'used_memory:(%d+)'), string.match(memory, 'maxmemory:(%d+)')
        local share = limit == '0' and 0 or used / limit
        room = math.max(0, math.min(1, (SCARCE - share) / (SCARCE - AMPLE)))
    end
    redis.call('EXPIRE', key, math.ceil(least + room * (most - least)))
end
