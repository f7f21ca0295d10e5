-- Add events to windows and find, for each span (needed, width) of the query of a window, the events that end a run:
-- `needed` consecutive members within `width`.
--
-- ARGV[1]  msgpack: {position, {key, {{{needed, width}, …}, keep, past}, newest, {time, id, time, id, …}}} for each
--          window; the spans are in ascending order; the query is false if it is the query of the window before
-- Reply    msgpack: {position, index of the span from 0, needed, {{time, id}, …}} for each span with events; the events
--          are {} if they are the events of the result before
--
-- eventpulse:window:<scope>:<group>  sorted set: event id -> event time in microseconds
-- The key is shared by all workers and by all rules of a scope. Its members are event ids, so that a redelivery changes
-- nothing.
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
-- The cost depends on the number of commands and the length of their replies. So the script first tests which spans can
-- have a result: a span can, if at least `needed` members are less than `width` older than the oldest new member, or
-- later. One command counts the members for all spans of a width, and none is needed for a span that needs more members
-- than the widest span has. Members are read only for the spans that pass this test, and each member only once. Usually
-- the newest members are enough, because events arrive nearly in order.

bypass_oom()
local call = redis.call
local results = {}
local TAIL = 4 -- number of members that are read in addition to the new members
local SLACK = 64 -- number of added members after which the window is cut to `keep` members

-- Read the members with the ranks `first` to `last` into the tables `times` and `ids`; return the number of members.
local function read(key, first, last, times, ids)
    local reply = call('ZRANGE', key, first, last, 'WITHSCORES')
    for i = 1, #reply, 2 do
        local rank = first + (i - 1) / 2
        ids[rank], times[rank] = reply[i], tonumber(reply[i + 1])
    end
    return #reply / 2
end

-- Return the largest width of a span.
local function widest(spans)
    local largest = 0
    for _, span in ipairs(spans) do
        largest = math.max(largest, span[2])
    end
    return largest
end

-- Return the spans that can have a result, as {index, needed, width}.
local function possible(key, spans, largest, oldest)
    local most = call('ZCOUNT', key, oldest - largest + 1, '+inf')
    local found, counts = {}, { [largest] = most }
    for index, span in ipairs(spans) do
        local needed, width = span[1], span[2]
        if needed > most then -- as is each later span
            break
        end
        counts[width] = counts[width] or call('ZCOUNT', key, oldest - width + 1, '+inf')
        if counts[width] >= needed then
            found[#found + 1] = { index, needed, width }
        end
    end
    return found
end

-- Read the new members and the later members that `needed` may affect. Return the rank of the oldest new member, the
-- rank of the latest new member, and the lowest and the highest rank that were read.
local function affected(key, size, members, needed, redelivered, times, ids)
    local oldest, latest = members[2], members[#members]
    local lowest = math.max(0, size - #members / 2 - TAIL)
    local highest = lowest + read(key, lowest, -1, times, ids) - 1
    local from, to = nil, nil
    for rank = lowest, highest do
        from, to = from or ids[rank] == oldest and rank, to or ids[rank] == latest and rank
    end
    if from then
        return from, to, lowest, highest
    end
    -- The oldest new member is older than the members that were read.
    from, to = call('ZRANK', key, oldest), call('ZRANK', key, latest)
    highest = from + read(key, from, redelivered and -1 or to + needed - 1, times, ids) - 1
    return from, to, from, highest
end

-- Return the ranks of the events that end a run of one span because of the new members. After a redelivery, also return
-- those that an earlier call has returned.
local function completed(needed, width, first, last, members, is_new, times, ids, redelivered)
    local found, new, expired = {}, 0, 0
    local stop = members[#members - 1] + width
    for rank = first, last do
        local at, added = times[rank], is_new[ids[rank]]
        if at >= stop then
            break
        end
        if added then
            new = new + 1
        end
        while expired < new and members[2 * expired + 1] <= at - width do
            expired = expired + 1
        end
        local start = times[rank - needed + 1]
        if start and at - start < width then
            local without = times[rank - needed + 1 - (new - expired)]
            local was_true = without and at - without < width
            if redelivered or added or not was_true then
                found[#found + 1] = rank
            end
        end
    end
    return found
end

local function equal(ranks, others)
    if #ranks ~= #others then
        return false
    end
    for i, rank in ipairs(ranks) do
        if rank ~= others[i] then
            return false
        end
    end
    return true
end

-- Return the events with these ranks.
local function events(ranks, times, ids)
    local found = {}
    for i, rank in ipairs(ranks) do
        found[i] = { times[rank], ids[rank] }
    end
    return found
end

-- Return the ranks from `first` to `last`.
local function range(first, last)
    local ranks = {}
    for rank = first, last do
        ranks[#ranks + 1] = rank
    end
    return ranks
end

-- Append the results of these spans. The new members are already in the window.
local function find(position, key, size, spans, members, redelivered)
    local times, ids, is_new, previous, all = {}, {}, {}, {}, nil -- times and ids by rank
    for i = 2, #members, 2 do
        is_new[members[i]] = true
    end
    local largest = spans[#spans][2]
    local first, latest, lowest, highest = affected(key, size, members, largest, redelivered, times, ids)
    local only_new = redelivered or highest - first + 1 == #members / 2
    for _, span in ipairs(spans) do
        local index, needed, width = unpack(span)
        local last = redelivered and highest or math.min(highest, latest + needed - 1)
        local start, ranks = first - needed + 1, nil
        if only_new and start >= 0 and not times[start] then
            read(key, start, start, times, ids)
        end
        if only_new and start >= 0 and times[last] - times[start] < width then
            all = all or range(first, last) -- each event ends a run, as after nearly every call for a busy window
            ranks = all
        else
            -- Read the members to compare with. Later spans need no ranks above, because they need more members.
            local low = math.max(0, start - #members / 2)
            if low < lowest then
                read(key, low, math.min(last - needed + 1, lowest - 1), times, ids)
                lowest = low
            end
            ranks = completed(needed, width, first, last, members, is_new, times, ids, redelivered)
        end
        if #ranks > 0 then
            local same = ranks == previous or equal(ranks, previous)
            results[#results + 1] = { position, index - 1, needed, same and {} or events(ranks, times, ids) }
            previous = ranks
        end
    end
end

local query, width -- of the window before
for _, entry in ipairs(admitted(cmsgpack.unpack(ARGV[1]))) do
    local position, update = unpack(entry)
    local key, current, newest, members = unpack(update)
    local spans, keep, past = unpack(current)
    if current ~= query then
        query, width = current, widest(spans)
    end
    local added = call('ZADD', key, 'NX', unpack(members))
    local size, redelivered = call('ZCARD', key), added < #members / 2

    if size >= spans[1][1] then
        local passed = possible(key, spans, width, members[1])
        if #passed > 0 then
            find(position, key, size, passed, members, redelivered)
        end
    end
    call('ZREMRANGEBYSCORE', key, '-inf', newest - past)
    if math.floor(size / SLACK) > math.floor((size - added) / SLACK) then
        call('ZREMRANGEBYRANK', key, 0, -keep - 1)
    end
    retain(key, width / 1e6 + MIN_GRACE, past / 1e6 + GRACE)
end

return cmsgpack.pack(results)
