-- Count events by time bucket. Return for each event the count of its bucket, and two sums over the `baseline` buckets
-- before this bucket: `total` is the sum of the counts, `squares` is the sum of the squared counts.
--
-- ARGV[1]  msgpack: {position, {key, {size, baseline, keep}, newest, {time, id, time, id, …}}} for each window
-- Reply    msgpack: {position, id, time, count, total, squares} for each event whose baseline is complete
--
-- eventpulse:window:<rule>:<condition>:<group>           hash: bucket number -> count, "first" -> first bucket number
-- eventpulse:window:<rule>:<condition>:<group>:<bucket>  set of event ids, so that each event is counted once

bypass_oom()
local results = {}
local IDS_GRACE = 900 -- seconds; less than GRACE, because the ids of all events of a bucket need much memory

local function name(bucket)
    return string.format('%.0f', bucket)
end

-- Return the sums of the counts and of the squared counts of the `length` buckets before `bucket`.
local function baseline_of(key, bucket, length)
    local fields, total, squares = {}, 0, 0
    for back = 1, length do
        fields[back] = name(bucket - back)
    end
    for _, reply in ipairs(redis.call('HMGET', key, unpack(fields))) do
        local count = tonumber(reply or 0)
        total, squares = total + count, squares + count * count
    end
    return total, squares
end

-- Count the events of one bucket, and append their results.
local function add(position, key, query, bucket, times, ids)
    local size, baseline = unpack(query)
    local counted = key .. ':' .. name(bucket)
    local count = redis.call('HINCRBY', key, name(bucket), redis.call('SADD', counted, unpack(ids)))
    retain(counted, size / 1e6 + MIN_GRACE, size / 1e6 + IDS_GRACE)
    local first = tonumber(redis.call('HGET', key, 'first') or math.huge)
    if bucket < first then
        redis.call('HSET', key, 'first', name(bucket))
    elseif first <= bucket - baseline then
        local total, squares = baseline_of(key, bucket, baseline)
        for i, id in ipairs(ids) do
            results[#results + 1] = { position, id, times[i], count - #ids + i, total, squares }
        end
    end
end

for _, entry in ipairs(cmsgpack.unpack(ARGV[1])) do
    local position, update = unpack(entry)
    local key, query, newest, members = unpack(update)
    local size, baseline, keep = unpack(query)
    local bucket, times, ids = nil, {}, {}
    for i = 1, #members, 2 do
        local member_bucket = math.floor(members[i] / size)
        if bucket and member_bucket > bucket then
            add(position, key, query, bucket, times, ids)
            times, ids = {}, {}
        end
        bucket = member_bucket
        times[#times + 1], ids[#ids + 1] = members[i], members[i + 1]
    end
    add(position, key, query, bucket, times, ids)

    if redis.call('HLEN', key) > 2 * keep + 1 then
        local oldest = math.floor(newest / size) - keep
        for _, field in ipairs(redis.call('HKEYS', key)) do
            if field ~= 'first' and tonumber(field) < oldest then
                redis.call('HDEL', key, field)
            end
        end
    end
    retain(key, (baseline + 1) * size / 1e6 + MIN_GRACE, keep * size / 1e6 + GRACE)
end

return cmsgpack.pack(results)
