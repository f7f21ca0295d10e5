-- How long the keys of windows are kept; put before each of the other scripts.
--
-- What a queue has given out may come again, and what waited behind an outage comes late. So a key is kept for a grace
-- after it is needed. But a rule that groups by what never comes again must not fill Redis and so close the door to all
-- events: the grace shrinks from where half of maxmemory is used, and is at its least before ingest refuses.

local GRACE_SECONDS, LEAST_GRACE_SECONDS = 3600, 60
local AMPLE, SCARCE = 0.50, 0.65 -- of maxmemory
local room -- which share of the grace there is memory for, once it is known

local function retain(key, needed_seconds, grace_seconds)
    if not room then
        local memory = redis.call('INFO', 'memory')
        local used, most = string.match(memory, 'used_memory:(%d+)'), string.match(memory, 'maxmemory:(%d+)')
        local share = most == '0' and 0 or used / most
        room = math.max(0, math.min(1, (SCARCE - share) / (SCARCE - AMPLE)))
    end
    local grace = math.floor(room * (grace_seconds or GRACE_SECONDS))
    redis.call('EXPIRE', key, needed_seconds + math.max(grace, LEAST_GRACE_SECONDS))
end

