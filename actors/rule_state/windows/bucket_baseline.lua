-- Count events by time bucket. Return for each event the count of its bucket, and two sums over the `baseline` buckets
-- before this bucket: `total` is the sum of the counts, `squares` is the sum of the squared counts.
--
-- ARGV[1]  msgpack: {position, {key, {size, baseline, keep, exact}, newest, {time, id, time, id, …}}} for each window;
--          the query is false if it is the query of the window before
-- Reply    msgpack: {position, 0, count, {{time, id}}, total, squares} for each event whose baseline is complete
--
-- eventpulse:window:<rule>:<condition>:<group>                    hash: bucket number -> count, "first" -> first bucket
-- eventpulse:window:<rule>:<condition>:<group>:<bucket>           set of event ids, so that each event is counted once
-- eventpulse:window:<rule>:<condition>:<group>:<bucket>:estimate  HyperLogLog of event ids, in place of the set
--
-- A bucket has a set until its count is above `exact`. Then the set is replaced with a HyperLogLog, which counts each
-- event once as well, but needs only 12 KiB for any number of events. Its standard error is 0.81 % of the count.
-- The two keys have different names, because a worker of an earlier version continues to write the set.

bypass_oom()
local results = {}
local IDS_GRACE = 900 -- seconds; less than GRACE, because the ids of the events of a bucket need much memory
local MAX_IDS = 6000 -- number of ids that one command may have as arguments; Lua allows fewer than 8,000

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

-- Add ids to the HyperLogLog of a bucket. Return the change of its estimate.
local function add_to_estimate(estimate, ids)
    local before = redis.call('PFCOUNT', estimate)
    redis.call('PFADD', estimate, unpack(ids))
    return redis.call('PFCOUNT', estimate) - before
end

-- Add ids to a bucket with the count `count`. Return its new count.
local function count_ids(key, bucket, query, count, ids)
    local size, _, _, exact = unpack(query)
    local set = key .. ':' .. name(bucket)
    local estimate, least, most = set .. ':estimate', size / 1e6 + MIN_GRACE, size / 1e6 + IDS_GRACE
    if count <= exact then
        count = redis.call('HINCRBY', key, name(bucket), redis.call('SADD', set, unpack(ids)))
        if count <= exact then
            retain(set, least, most)
            return count
        end
        ids = {}
    end
    if redis.call('EXISTS', set) == 1 then
        -- A set that was written by an earlier version may be too large to be read as a whole.
        redis.call('PFADD', estimate, unpack(redis.call('SPOP', set, MAX_IDS)))
        redis.call('UNLINK', set)
    end
    if #ids > 0 then
        count = redis.call('HINCRBY', key, name(bucket), add_to_estimate(estimate, ids))
    end
    retain(estimate, least, most)
    return count
end

-- Count the events of one bucket, and append their results.
local function add(position, key, query, bucket, times, ids)
    local baseline = query[2]
    local first, count = unpack(redis.call('HMGET', key, 'first', name(bucket)))
    first, count = tonumber(first or math.huge), count_ids(key, bucket, query, tonumber(count or 0), ids)
    if bucket < first then
        redis.call('HSET', key, 'first', name(bucket))
    elseif first <= bucket - baseline then
        local total, squares = baseline_of(key, bucket, baseline)
        for i, id in ipairs(ids) do
            results[#results + 1] = { position, 0, count - #ids + i, { { times[i], id } }, total, squares }
        end
    end
end

for _, entry in ipairs(admitted(cmsgpack.unpack(ARGV[1]))) do
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
