-- Counts events by bucket of time and tells, for each, its bucket's count and the baseline before it.
--
-- ARGV[1]  msgpack: {position, {key, {size, baseline, keep}, newest, {{time, id}, …}}} for each window
-- Reply    msgpack: {position, id, time, count, total, squares} for each event whose baseline is full
--
-- eventpulse:window:<rule>:<condition>:<group>           hash: bucket number -> count, "first" -> first bucket of all.
-- eventpulse:window:<rule>:<condition>:<group>:<bucket>  set of the ids counted, so that a redelivery counts once.

redis.call('DEL', 'eventpulse:oom_bypass') -- lets a full Redis go on, see ../prelude.lua
local found = {}
local SEEN_GRACE = 900 -- less than others have, because every id counts here, not the newest few

local function name(bucket)
    return string.format('%.0f', bucket)
end

local function baseline_of(key, bucket, length)
    local fields, total, squares = {}, 0, 0
    for back = 1, length do
        fields[back] = name(bucket - back)
    end
    for _, count in ipairs(redis.call('HMGET', key, unpack(fields))) do
        local n = tonumber(count or 0)
        total, squares = total + n, squares + n * n
    end
    return total, squares
end

local function look(position, key, question, bucket, times, ids)
    local size, baseline = unpack(question)
    local seen = key .. ':' .. name(bucket)
    local count = redis.call('HINCRBY', key, name(bucket), redis.call('SADD', seen, unpack(ids)))
    retain(seen, size / 1e6 + LEAST_GRACE, size / 1e6 + SEEN_GRACE)
    local first = tonumber(redis.call('HGET', key, 'first') or math.huge)
    if bucket < first then
        redis.call('HSET', key, 'first', name(bucket))
    elseif first <= bucket - baseline then
        local total, squares = baseline_of(key, bucket, baseline)
        for i, id in ipairs(ids) do
            found[#found + 1] = {position, id, times[i], count - #ids + i, total, squares}
        end
    end
end

for _, entry in ipairs(cmsgpack.unpack(ARGV[1])) do
    local position, watch = unpack(entry)
    local key, question, newest, members = unpack(watch)
    local size, baseline, keep = unpack(question)
    local bucket, times, ids = nil, {}, {}
    for _, member in ipairs(members) do
        local its = math.floor(member[1] / size)
        if bucket and its > bucket then
            look(position, key, question, bucket, times, ids)
            times, ids = {}, {}
        end
        bucket = its
        times[#times + 1], ids[#ids + 1] = member[1], member[2]
    end
    look(position, key, question, bucket, times, ids)

    if redis.call('HLEN', key) > 2 * keep + 1 then
        local oldest = math.floor(newest / size) - keep
        for _, field in ipairs(redis.call('HKEYS', key)) do
            if field ~= 'first' and tonumber(field) < oldest then
                redis.call('HDEL', key, field)
            end
        end
    end
    retain(key, (baseline + 1) * size / 1e6 + LEAST_GRACE, keep * size / 1e6 + GRACE)
end

return cmsgpack.pack(found)
