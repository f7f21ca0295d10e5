-- Remembers which events spoke for their group: their anomalies are recorded.
--
-- ARGV[1]  msgpack: {key, cooldown, past, keep, {{time, id}, …}} for each group
--
-- eventpulse:cooldown:<rule>:<condition>:<group>  sorted set of the ids of events that spoke, by time in microseconds.

redis.call('DEL', 'eventpulse:oom_bypass') -- lets a full Redis go on, see ../prelude.lua
for _, claim in ipairs(cmsgpack.unpack(ARGV[1])) do
    local key, _, past, keep, members = unpack(claim)
    for _, member in ipairs(members) do
        redis.call('ZADD', key, 'NX', unpack(member))
        redis.call('ZREMRANGEBYSCORE', key, '-inf', member[1] - past)
    end
    redis.call('ZREMRANGEBYRANK', key, 0, -keep - 1)
    retain(key, past / 1e6 + LEAST_GRACE, past / 1e6 + GRACE)
end
