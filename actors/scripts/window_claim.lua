-- Lets an event speak for its group unless another that does lies less than the cooldown away.
--
-- ARGV[1]  msgpack: {key, cooldown, past, keep, ttl, {{time, id}, …}} for each group
-- Reply    msgpack: for each group, true or false for each of its events
--
-- eventpulse:cooldown:<rule>:<condition>:<group>  sorted set of event ids by the time they claimed, in microseconds.
-- Claimed by an event id: a redelivered event finds its own claim and goes on.

local answer = {}

local function decide(key, cooldown, past, keep, ttl, members)
    local first, last = members[1][1] - cooldown, members[#members][1] + cooldown
    local reply = redis.call('ZRANGEBYSCORE', key, first, last, 'WITHSCORES')
    local claimed, mine = {}, {}
    for i = 1, #reply, 2 do
        mine[reply[i]] = true
        claimed[#claimed + 1] = tonumber(reply[i + 1])
    end

    local granted, added, near = {}, {}, 1
    for i, member in ipairs(members) do
        local at, id = unpack(member)
        while claimed[near] and claimed[near] <= at - cooldown do
            near = near + 1
        end
        local free = not claimed[near] or claimed[near] >= at + cooldown
        if free then
            table.insert(claimed, near, at)
            added[#added + 1], added[#added + 2] = at, id
        end
        granted[i] = free or mine[id] or false
    end

    if #added > 0 then
        redis.call('ZADD', key, 'NX', unpack(added))
        redis.call('ZREMRANGEBYSCORE', key, '-inf', added[#added - 1] - past)
        redis.call('ZREMRANGEBYRANK', key, 0, -keep - 1)
        redis.call('EXPIRE', key, ttl)
    end
    return granted
end

for i, claim in ipairs(cmsgpack.unpack(ARGV[1])) do
    answer[i] = decide(unpack(claim))
end

return cmsgpack.pack(answer)
