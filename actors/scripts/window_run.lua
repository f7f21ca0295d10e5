-- Adds events to windows and finds those that are the last of `needed` members within `width`.
--
-- ARGV[1]  msgpack: {position, {key, {needed, width, keep, past, ttl}, newest, {{time, id}, …}}} for each window
-- Reply    msgpack: {position, id, time, needed} for each event found
--
-- eventpulse:window:<rule>:<condition>:<group>  sorted set of event ids by event time in microseconds.
-- Shared by all workers, so that together they see what one would see; ids, so that a redelivery changes
-- nothing. The keys are not declared: all windows are on one server, and in one call.
--
-- An event is the last of a run when the member `needed - 1` before it is less than `width` older. A new event can
-- make so those less than `width` later, `needed - 1` ranks at most. Of these, whoever is so without the new ones
-- (`new` that came up to it, but for those `gone` from its window) has been named before.

local found = {}

local function times(key, first, last)
    local reply, scores, ids = redis.call('ZRANGE', key, first, last, 'WITHSCORES'), {}, {}
    for i = 1, #reply, 2 do
        ids[#ids + 1], scores[#scores + 1] = reply[i], tonumber(reply[i + 1])
    end
    return scores, ids
end

for _, entry in ipairs(cmsgpack.unpack(ARGV[1])) do
    local position, watch = unpack(entry)
    local key, question, newest, members = unpack(watch)
    local needed, width, keep, past, ttl = unpack(question)
    local mine, additions = {}, {}
    for i, member in ipairs(members) do
        mine[member[2]] = true
        additions[2 * i - 1], additions[2 * i] = member[1], member[2]
    end
    local again = redis.call('ZADD', key, 'NX', unpack(additions)) < #members
    local size = redis.call('ZCARD', key)

    local first, last = redis.call('ZRANK', key, members[1][2]), size - 1
    if not again then
        last = math.min(last, redis.call('ZRANK', key, members[#members][2]) + needed - 1)
    end
    if last >= needed - 1 then
        local lowest = math.max(0, first - needed + 1 - #members)
        local starts = times(key, lowest, last - needed + 1)
        local ends, ids = times(key, first, last)
        local new, gone = 0, 0
        for i, at in ipairs(ends) do
            if at >= members[#members][1] + width then
                break
            end
            if mine[ids[i]] then
                new = new + 1
            end
            while gone < new and members[gone + 1][1] <= at - width do
                gone = gone + 1
            end
            local start = first + i - needed - lowest + 1
            local without = starts[start - (new - gone)]
            local known = without and at - without < width
            if starts[start] and at - starts[start] < width and (again or mine[ids[i]] or not known) then
                found[#found + 1] = {position, ids[i], at, needed}
            end
        end
    end

    redis.call('ZREMRANGEBYSCORE', key, '-inf', newest - past)
    if size > keep then
        redis.call('ZREMRANGEBYRANK', key, 0, -keep - 1)
    end
    redis.call('EXPIRE', key, ttl)
end

return cmsgpack.pack(found)
