-- Tells which events may speak for their group: no other that does lies less than the cooldown away.
--
-- ARGV[1]  msgpack: {key, cooldown, past, keep, {{time, id}, …}} for each group
-- Reply    msgpack: for each group, true or false for each of its events
--
-- eventpulse:cooldown:<rule>:<condition>:<group>  sorted set of the ids of events that spoke, by time in microseconds.
-- It is only read here, and is a filter: PostgreSQL decides, where the anomaly is recorded.

local answer = {}

local function free(key, cooldown, _, _, members)
    local first, last = members[1][1] - cooldown, members[#members][1] + cooldown
    local reply = redis.call('ZRANGEBYSCORE', key, first, last, 'WITHSCORES')
    local claimed, mine = {}, {}
    for i = 1, #reply, 2 do
        mine[reply[i]] = true
        claimed[#claimed + 1] = tonumber(reply[i + 1])
    end

    local may, near, speaks = {}, 1, nil
    for i, member in ipairs(members) do
        local at, id = unpack(member)
        while claimed[near] and claimed[near] <= at - cooldown do
            near = near + 1
        end
        local alone = not claimed[near] or claimed[near] >= at + cooldown
        alone = alone and (not speaks or at - speaks >= cooldown)
        if alone then
            speaks = at
        end
        may[i] = alone or mine[id] or false
    end
    return may
end

for i, claim in ipairs(cmsgpack.unpack(ARGV[1])) do
    answer[i] = free(unpack(claim))
end

return cmsgpack.pack(answer)
