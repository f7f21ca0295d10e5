-- Return for each event whether it may start a cooldown: every other start in its group must be at least one cooldown
-- away. An event that has already started a cooldown may start it again, so that a redelivery has the same result.
--
-- ARGV[1]  msgpack: {key, cooldown, {{time, id}, …}} for each group, its events in order of (time, id)
-- Reply    msgpack: for each group, a list of booleans: whether each event may start a cooldown
--
-- eventpulse:cooldown:<rule>:<condition>:<group>  sorted set: event id -> time in microseconds
-- The script stores nothing. It only prevents unnecessary transactions: the transaction that records an anomaly in
-- PostgreSQL makes the final decision.

local function winners(key, cooldown, members)
    local first, last = members[1][1] - cooldown, members[#members][1] + cooldown
    local reply = redis.call('ZRANGEBYSCORE', key, first, last, 'WITHSCORES')
    local starts, started = {}, {} -- events that started a cooldown: times in order, and set of ids
    for i = 1, #reply, 2 do
        started[reply[i]] = true
        starts[#starts + 1] = tonumber(reply[i + 1])
    end

    local wins, next_start, winner = {}, 1, nil
    for i, member in ipairs(members) do
        local at, id = unpack(member)
        while starts[next_start] and starts[next_start] <= at - cooldown do
            next_start = next_start + 1
        end
        local free = not starts[next_start] or starts[next_start] >= at + cooldown
        free = free and (not winner or at - winner >= cooldown)
        if free then
            winner = at
        end
        wins[i] = free or started[id] or false
    end
    return wins
end

local results = {}
for i, claim in ipairs(cmsgpack.unpack(ARGV[1])) do
    results[i] = winners(unpack(claim))
end

return cmsgpack.pack(results)
