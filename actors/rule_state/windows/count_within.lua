-- Add events to windows. Return for each event the number of members in the span of `width` that ends with this event,
-- including the event itself.
--
-- ARGV[1]  msgpack: {position, {key, {width, keep, past}, newest, {time, id, time, id, …}}} for each window
-- Reply    msgpack: {position, id, time, count} for each event
--
-- eventpulse:window:<rule>:<condition>:<group>  sorted set: event id -> event time in microseconds
-- The key is shared by all workers. Its members are event ids, so that a redelivery changes nothing.

bypass_oom()
local results = {}

for _, entry in ipairs(admitted(cmsgpack.unpack(ARGV[1]))) do
    local position, update = unpack(entry)
    local key, query, newest, members = unpack(update)
    local width, keep, past = unpack(query)
    redis.call('ZADD', key, 'NX', unpack(members))

    for i = 1, #members, 2 do
        local at, id = members[i], members[i + 1]
        results[#results + 1] = { position, id, at, redis.call('ZCOUNT', key, at - width + 1, at) }
    end

    redis.call('ZREMRANGEBYSCORE', key, '-inf', newest - past)
    redis.call('ZREMRANGEBYRANK', key, 0, -keep - 1)
    retain(key, width / 1e6 + MIN_GRACE, past / 1e6 + GRACE)
end

return cmsgpack.pack(results)
