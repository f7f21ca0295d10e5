-- Add events to windows. Return for each event and each width of the query of a window the number of members in the span
-- of this width that ends with the event, including the event itself.
--
-- ARGV[1]  msgpack: {position, {key, {{width, …}, keep, past}, newest, {time, id, time, id, …}}} for each window; the
--          widths are in ascending order; the query is false if it is the query of the window before
-- Reply    msgpack: {position, index of the width from 0, count, {{time, id}}} for each event and width
--
-- eventpulse:window:<scope>:<group>  sorted set: event id -> event time in microseconds
-- The key is shared by all workers and by all rules of a scope. Its members are event ids, so that a redelivery changes
-- nothing.

bypass_oom()
local results = {}

for _, entry in ipairs(admitted(cmsgpack.unpack(ARGV[1]))) do
    local position, update = unpack(entry)
    local key, query, newest, members = unpack(update)
    local widths, keep, past = unpack(query)
    redis.call('ZADD', key, 'NX', unpack(members))

    for i = 1, #members, 2 do
        local at = members[i]
        local events = { { at, members[i + 1] } }
        for index, width in ipairs(widths) do
            local count = redis.call('ZCOUNT', key, at - width + 1, at)
            results[#results + 1] = { position, index - 1, count, events }
        end
    end

    redis.call('ZREMRANGEBYSCORE', key, '-inf', newest - past)
    redis.call('ZREMRANGEBYRANK', key, 0, -keep - 1)
    retain(key, widths[#widths] / 1e6 + MIN_GRACE, past / 1e6 + GRACE)
end

return cmsgpack.pack(results)
