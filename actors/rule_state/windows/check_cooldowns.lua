-- Return for each event whether it may start a cooldown: every other start in its group must be at least one cooldown
-- away. An event that has already started a cooldown may start it again, so that a redelivery has the same result.
--
-- ARGV[1]  msgpack: {{{time, id, time, id, …}, …}, {{key, cooldown, index of a list from 1}, …}}: lists of events in order
--          of (time, id), and a claim for each group, with the index of its list of events
-- Reply    msgpack: for each claim, the indexes from 0 of the events that may start a cooldown, in ascending order
--
-- eventpulse:cooldown:<rule>:<condition>:<group>  sorted set: event id -> time in microseconds
-- The script stores nothing. It only prevents unnecessary transactions: the transaction that records an anomaly in
-- PostgreSQL makes the final decision.
--
-- Many rules may fire for the same events, most of which are within a cooldown. So a list of events is sent once, and
-- the script skips the events within a cooldown by binary search.

local lists, claims = unpack(cmsgpack.unpack(ARGV[1]))
local places = {} -- for each list, the indexes of its events by id, when they were needed

-- Return the index of the first event from the index `low` that is not earlier than `at`.
local function at_or_after(events, at, low)
    local high = #events / 2 + 1
    while low < high do
        local middle = math.floor((low + high) / 2)
        if events[2 * middle - 1] < at then
            low = middle + 1
        else
            high = middle
        end
    end
    return low
end

local function places_of(number)
    if not places[number] then
        places[number] = {}
        for i = 2, #lists[number], 2 do
            places[number][lists[number][i]] = i / 2
        end
    end
    return places[number]
end

local function winners(key, cooldown, number)
    local events = lists[number]
    local first, last = events[1] - cooldown, events[#events - 1] + cooldown
    local reply = redis.call('ZRANGEBYSCORE', key, first, last, 'WITHSCORES')
    local starts, wins = {}, {} -- times of the stored starts in order, and the set of winning indexes
    for i = 1, #reply, 2 do
        starts[#starts + 1] = tonumber(reply[i + 1])
        local started = places_of(number)[reply[i]]
        if started then
            wins[started] = true
        end
    end

    local index, next_start = 1, 1
    while index <= #events / 2 do
        local at = events[2 * index - 1]
        while starts[next_start] and starts[next_start] <= at - cooldown do
            next_start = next_start + 1
        end
        local start = starts[next_start]
        if not start or start >= at + cooldown then
            wins[index], start = true, at
        end
        index = at_or_after(events, start + cooldown, index + 1)
    end

    local indexes = {}
    for winner in pairs(wins) do
        indexes[#indexes + 1] = winner - 1
    end
    table.sort(indexes)
    return indexes
end

local results = {}
for i, claim in ipairs(claims) do
    results[i] = winners(unpack(claim))
end

return cmsgpack.pack(results)
