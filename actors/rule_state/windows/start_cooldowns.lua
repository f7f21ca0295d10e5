-- Store the start of a cooldown for each event whose anomaly was recorded.
--
-- ARGV[1]  msgpack: {key, past, keep, {{time, id}, …}} for each group
--
-- eventpulse:cooldown:<rule>:<condition>:<group>  sorted set: event id -> time in microseconds

bypass_oom()
for _, claim in ipairs(cmsgpack.unpack(ARGV[1])) do
    local key, past, keep, members = unpack(claim)
    for _, member in ipairs(members) do
        redis.call('ZADD', key, 'NX', unpack(member))
        redis.call('ZREMRANGEBYSCORE', key, '-inf', member[1] - past)
    end
    redis.call('ZREMRANGEBYRANK', key, 0, -keep - 1)
    retain(key, past / 1e6 + MIN_GRACE, past / 1e6 + GRACE)
end
