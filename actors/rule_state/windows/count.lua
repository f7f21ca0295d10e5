-- Adds events to windows and counts, for each, the members of the `width` before it, itself included.
--
-- ARGV[1]  msgpack: {position, {key, {needed, width, keep, past}, newest, {{time, id}, …}}} for each window
-- Reply    msgpack: {position, id, time, count} for each event
--
-- eventpulse:window:<rule>:<condition>:<group>  sorted set of event ids by event time in microseconds.
-- Shared by all workers; ids, so that a redelivery changes nothing. Trimmed to what the count needs.

redis.call('DEL', 'eventpulse:oom_bypass') -- lets a full Redis go on, see ../prelude.lua
local found = {}

for _, entry in ipairs(cmsgpack.unpack(ARGV[1])) do
    local position, watch = unpack(entry)
    local key, question, newest, members = unpack(watch)
    local _, width, keep, past = unpack(question)
    local additions = {}
    for i, member in ipairs(members) do
        additions[2 * i - 1], additions[2 * i] = member[1], member[2]
    end
    redis.call('ZADD', key, 'NX', unpack(additions))

    for _, member in ipairs(members) do
        local at, id = unpack(member)
        found[#found + 1] = {position, id, at, redis.call('ZCOUNT', key, at - width + 1, at)}
    end

    redis.call('ZREMRANGEBYSCORE', key, '-inf', newest - past)
    redis.call('ZREMRANGEBYRANK', key, 0, -keep - 1)
    retain(key, width / 1e6 + LEAST_GRACE, past / 1e6 + GRACE)
end

return cmsgpack.pack(found)
