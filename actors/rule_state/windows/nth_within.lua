-- Add events to windows and find the events that end a run: `needed` consecutive members within `width`.
--
-- ARGV[1]  msgpack: {position, {key, {needed, width, keep, past}, newest, {time, id, time, id, …}}} for each window
-- Reply    msgpack: {position, id, time, needed} for each event found
--
-- eventpulse:window:<rule>:<condition>:<group>  sorted set: event id -> event time in microseconds
-- The key is shared by all workers. Its members are event ids, so that a redelivery changes nothing.
--
-- An event ends a run if it is less than `width` later than the member `needed - 1` ranks before the event.
-- A new member can change this only for events less than `width` later and at most `needed - 1` ranks later.
-- If an event ended a run without the new members, an earlier call has returned its result. After a redelivery the
-- result is returned again, because the first worker may have crashed before it recorded the anomaly.
--
-- Example: needed = 3, width = 10; the window held times 1, 5 and 12, and now 3 is added.
--
--   rank  time  member needed-1 ranks before it   without the new member        result
--   0     1
--   1     3     none                              (is the new member)           no: it has 2 members
--   2     5     rank 0, time 1: 5 - 1 < 10        rank -1: none, was not true   yes: 1, 3, 5
--   3     12    rank 1, time 3: 12 - 3 < 10       rank 0, time 1: 12 - 1 >= 10  yes: 3, 5, 12
--
-- In the column "without the new member", the rank is lower by `new - expired`. `new` is the number of new members up
-- to the event; `expired` is the number of new members that are at least `width` older than the event.
-- Second example: the window held 1, 2, 5 and 12, and 3 is added. Then 5 has rank 3. Without 3, the member to compare
-- with has rank 0 and time 1: 5 - 1 < 10, so an earlier call has returned the result of 5.
--
-- The cost depends on the number of commands and the length of their replies. So the script first tests, with one short
-- reply, whether the oldest new event or a later event can end a run. Members are read only if this test succeeds.
-- Usually the newest members are enough, because events arrive nearly in order.

bypass_oom()
local call = redis.call
local results = {}
local TAIL = 4 -- number of members that are read in addition to the new members
local SLACK = 64 -- number of added members after which the window is cut to `keep` members

-- Return the times and ids of the members with the ranks `first` to `last`.
local function read(key, first, last)
    local reply, times, ids = call('ZRANGE', key, first, last, 'WITHSCORES'), {}, {}
    for i = 1, #reply, 2 do
        ids[#ids + 1], times[#times + 1] = reply[i], tonumber(reply[i + 1])
    end
    return times, ids
end

-- Return the rank of the oldest new member, and the times and ids from this rank to the last affected member.
local function affected(key, size, members, needed, redelivered)
    local oldest, latest = members[2], members[#members]
    local first = math.max(0, size - #members / 2 - TAIL)
    local times, ids = read(key, first, -1)
    local from, to = nil, nil
    for i, id in ipairs(ids) do
        from, to = from or id == oldest and i, to or id == latest and i
    end
    if not from then -- the oldest new member is older than the members that were read
        first = call('ZRANK', key, oldest)
        to = call('ZRANK', key, latest) - first + 1
        times, ids = read(key, first, redelivered and -1 or first + to + needed - 2)
        from = 1
    end
    local last = redelivered and #ids or math.min(#ids, to + needed - 1)
    return first + from - 1, { unpack(times, from, last) }, { unpack(ids, from, last) }
end

-- Append a result for each event that ends a run because of the new members, which are already in the window. After a
-- redelivery, also append the results that an earlier call has returned.
local function find(position, key, size, needed, width, members, redelivered)
    local is_new = {}
    for i = 2, #members, 2 do
        is_new[members[i]] = true
    end
    local first, times, ids = affected(key, size, members, needed, redelivered)
    -- `starts` has the times of the members that the loop compares with; starts[1] is the time at the rank `lowest`.
    local lowest = math.max(0, first - needed + 1 - #members / 2)
    local starts = read(key, lowest, first + #times - needed)
    local new, expired = 0, 0
    for i, at in ipairs(times) do
        if at >= members[#members - 1] + width then
            break
        end
        if is_new[ids[i]] then
            new = new + 1
        end
        while expired < new and members[2 * expired + 1] <= at - width do
            expired = expired + 1
        end
        local start = first + i - needed - lowest + 1 -- index of the member `needed - 1` ranks before this event
        local without = starts[start - (new - expired)]
        local was_true = without and at - without < width
        if starts[start] and at - starts[start] < width and (redelivered or is_new[ids[i]] or not was_true) then
            results[#results + 1] = { position, ids[i], at, needed }
        end
    end
end

for _, entry in ipairs(admitted(cmsgpack.unpack(ARGV[1]))) do
    local position, update = unpack(entry)
    local key, query, newest, members = unpack(update)
    local needed, width, keep, past = unpack(query)
    local added = call('ZADD', key, 'NX', unpack(members))
    local size, redelivered = call('ZCARD', key), added < #members / 2

    if size >= needed then
        local latest_start = call('ZRANGE', key, size - needed, size - needed, 'WITHSCORES')[2]
        if members[1] - latest_start < width then
            find(position, key, size, needed, width, members, redelivered)
        end
    end
    call('ZREMRANGEBYSCORE', key, '-inf', newest - past)
    if math.floor(size / SLACK) > math.floor((size - added) / SLACK) then
        call('ZREMRANGEBYRANK', key, 0, -keep - 1)
    end
    retain(key, width / 1e6 + MIN_GRACE, past / 1e6 + GRACE)
end

return cmsgpack.pack(results)
