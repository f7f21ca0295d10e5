-- How long the keys of windows are kept; put before the scripts that write them.
--
-- What waited behind an outage comes late, and what a queue has given out may come again. So keys are kept for longer
-- than their rule needs them. But a rule that groups by what never comes again should not fill Redis, and so close the
-- door to all events: when half of maxmemory is used that time shrinks, and from 65 per cent on (ingest refuses at 80,
-- unless it is set otherwise) a window lives little longer than it is wide, and an event that is late finds less in it.

local GRACE, LEAST_GRACE = 3600, 180 -- seconds; the least is more than a lost bundle takes to be evaluated again
local AMPLE, SCARCE = 0.50, 0.65 -- of maxmemory
local room -- from 1, ample, to 0, scarce, once it is known

-- Keep a key for so many seconds after this use of it: how many depends on how full Redis is.
local function retain(key, least, most)
    if not room then
        local memory = redis.call('INFO', 'memory')
        local used, limit = string.match(memory, 'used_memory:(%d+)'), string.match(memory, 'maxmemory:(%d+)')
        local share = limit == '0' and 0 or used / limit
        room = math.max(0, math.min(1, (SCARCE - share) / (SCARCE - AMPLE)))
    end
    redis.call('EXPIRE', key, math.ceil(least + room * (most - least)))
end
