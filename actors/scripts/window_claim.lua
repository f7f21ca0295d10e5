-- Grants each claim, in this order, unless another event's lies less than its cooldown away.
--
-- ARGV[1]  msgpack: {key, id, time, cooldown, past, ttl, keep} for each claim
-- Reply    msgpack: true or false for each claim
--
-- eventpulse:cooldown:<rule>:<condition>:<group>  sorted set of event ids by the time they claimed, in microseconds.
-- Claimed by an event id: a redelivered event finds its own claim and goes on.

local granted = {}

local function exclusive(time)
    return string.format('(%.0f', time)
end

for i, claim in ipairs(cmsgpack.unpack(ARGV[1])) do
    local key, id, at, cooldown, past, ttl, keep = unpack(claim)
    granted[i] = redis.call('ZSCORE', key, id) ~= false
    if not granted[i] and redis.call('ZCOUNT', key, exclusive(at - cooldown), exclusive(at + cooldown)) == 0 then
        redis.call('ZADD', key, at, id)
        redis.call('ZREMRANGEBYSCORE', key, '-inf', at - past)
        redis.call('ZREMRANGEBYRANK', key, 0, -keep - 1)
        redis.call('EXPIRE', key, ttl)
        granted[i] = true
    end
end

return cmsgpack.pack(granted)
