-- Find the events that win the cooldown of their group: the time to every other winner is at least the cooldown.
--
-- ARGV[1]  msgpack: {key, cooldown, {{time, id}, …}} for each group, its events in order of (time, id)
-- Reply    msgpack: for each group, a list: whether each event wins
--
-- eventpulse:cooldown:<rule>:<condition>:<group>  sorted set: event id -> time in microseconds
-- The script only reads, to avoid needless transactions: the transaction that records an anomaly in PostgreSQL decides.

local function winners(key, cooldown, members)
    local first, last = members[1][1] - cooldown, members[#members][1] + cooldown
    local reply = redis.call('ZRANGEBYSCORE', key, first, last, 'WITHSCORES')
    local starts, started = {}, {} -- times in order, and set of ids, of the events that started a cooldown
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
