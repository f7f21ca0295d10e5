-- Functions of the scripts that write the state of rules; this text is prepended to each script.
--
-- Keys are kept longer than their rules need them, because events can arrive late after an outage and can be delivered
-- again. But rules with very many groups must not fill Redis, because ingest would then reject all events.
-- The retention becomes shorter when Redis uses more than half of maxmemory. From 65 per cent on (by default, ingest
-- rejects above 80 per cent), keys have the minimum retention, so that the counts for late events may be too low.
--
-- The windows of a degraded rule, whose state is larger than its budget, have the minimum retention in any case, and no
-- window is created for new groups: their events are counted in `rules.uncounted`. Cooldowns are always stored, because
-- without a cooldown each further event of its group would cause a transaction.
--
-- eventpulse:rules.degraded   set of the owners of degraded rules; see ../owners.py and ../survey.py
-- eventpulse:rules.uncounted  hash of owner -> number of events that were not counted since the last survey
--
-- The keys of windows are not passed in KEYS, because a call uses many keys and only Redis Cluster requires KEYS.

local GRACE, MIN_GRACE = 3600, 180 -- seconds; the minimum is longer than the recovery and retry of a lost batch
local AMPLE, SCARCE = 0.50, 0.65 -- used shares of maxmemory
local degraded -- set of the owners of degraded rules, read once for each call; false if it is empty
local room -- number from 0 (memory is scarce) to 1 (memory is ample), computed once for each call

-- Let the script write to a full Redis; see ../../transport/scripts/prelude.lua.
local function bypass_oom()
    redis.call('DEL', 'eventpulse:oom_bypass')
end

-- Return the owner of a key if its rule is degraded, otherwise nil.
local function degraded_owner(key)
    if degraded == nil then
        local owners = redis.call('SMEMBERS', 'eventpulse:rules.degraded')
        degraded = #owners > 0 and {}
        for _, owner in ipairs(owners) do
            degraded[owner] = true
        end
    end
    if degraded then
        local first, second = string.match(key, '^[^:]+:[^:]+:([^:]+:)([^:]*:?)')
        return degraded[first] and first or degraded[first .. second] and first .. second or nil
    end
end

-- Return the entries whose window may be written; `entries` are {position, {key, query, newest, members}}. An entry may
-- have false as its query, if this is the query of the entry before; a removed entry passes its query on.
local function admitted(entries)
    local kept, query = {}, nil
    for _, entry in ipairs(entries) do
        local key, changed, _, members = unpack(entry[2])
        query = changed or query
        local owner = degraded_owner(key)
        if owner and redis.call('EXISTS', key) == 0 then
            redis.call('HINCRBY', 'eventpulse:rules.uncounted', owner, #members / 2)
        else
            entry[2][2] = query
            kept[#kept + 1] = entry
        end
    end
    return kept
end

-- Expire a key after `min` to `max` seconds, depending on the free memory of Redis; after `min` for a degraded rule.
local function retain(key, min, max)
    if degraded_owner(key) then
        max = min
    end
    if not room then
        local memory = redis.call('INFO', 'memory')
        local used, limit = string.match(memory, 'used_memory:(%d+)'), string.match(memory, 'maxmemory:(%d+)')
        local share = limit == '0' and 0 or used / limit
        room = math.max(0, math.min(1, (SCARCE - share) / (SCARCE - AMPLE)))
    end
    redis.call('EXPIRE', key, math.ceil(min + room * (max - min)))
end
