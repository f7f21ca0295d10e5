-- Adds events to windows and finds those that are the last of `needed` members within `width`.
--
-- ARGV[1]  msgpack: {position, {key, {needed, width, keep, past}, newest, {{time, id}, …}}} for each window
-- Reply    msgpack: {position, id, time, needed} for each event found
--
-- eventpulse:window:<rule>:<condition>:<group>  sorted set of event ids by event time in microseconds.
-- Shared by all workers, so that together they see what one would see; ids, so that a redelivery changes
-- nothing. The keys are not declared: all windows are on one server, and in one call.
--
-- An event is the last of a run when the member `needed - 1` before it is less than `width` older. A new event can
-- make so those less than `width` later, `needed - 1` ranks at most. Of these, whoever is so without the new ones
-- (`new` that came up to it, but for those `gone` from its window) has been named before.
--
-- Commands and their replies are what this costs. So the rare questions come last: first, whether any event since the
-- oldest new one can be the last of a run at all; then the ranks, which for events in order are those of the newest few.

redis.call('DEL', 'eventpulse:oom_bypass') -- lets a full Redis go on, see ../prelude.lua
local call = redis.call
local found = {}
local TAIL = 4 -- members looked at beyond the new ones
local SLACK = 64 -- the number of members is cut whenever it has grown by so many

local function times(key, first, last)
    local reply, scores, ids = call('ZRANGE', key, first, last, 'WITHSCORES'), {}, {}
    for i = 1, #reply, 2 do
        ids[#ids + 1], scores[#scores + 1] = reply[i], tonumber(reply[i + 1])
    end
    return scores, ids
end

-- The members from the oldest new one on, as far as a new one may matter, and the rank of the first of them.
local function touched(key, size, members, needed, again)
    local oldest, latest = members[1][2], members[#members][2]
    local first = math.max(0, size - #members - TAIL)
    local scores, ids = times(key, first, -1)
    local from, to = nil, nil
    for i, id in ipairs(ids) do
        from, to = from or id == oldest and i, to or id == latest and i
    end
    if not from then
        first = call('ZRANK', key, oldest)
        to = call('ZRANK', key, latest) - first + 1
        scores, ids = times(key, first, again and -1 or first + to + needed - 2)
        from = 1
    end
    local last = again and #ids or math.min(#ids, to + needed - 1)
    return first + from - 1, { unpack(scores, from, last) }, { unpack(ids, from, last) }
end

-- Adds to `found` what the members of a watch, which are in the window by now, have made the last of a run.
local function look(position, key, size, needed, width, members, again)
    local mine = {}
    for _, member in ipairs(members) do
        mine[member[2]] = true
    end
    local first, ends, ids = touched(key, size, members, needed, again)
    local lowest = math.max(0, first - needed + 1 - #members)
    local starts = times(key, lowest, first + #ends - needed)
    local new, gone = 0, 0
    for i, at in ipairs(ends) do
        if at >= members[#members][1] + width then
            break
        end
        if mine[ids[i]] then
            new = new + 1
        end
        while gone < new and members[gone + 1][1] <= at - width do
            gone = gone + 1
        end
        local start = first + i - needed - lowest + 1
        local without = starts[start - (new - gone)]
        local known = without and at - without < width
        if starts[start] and at - starts[start] < width and (again or mine[ids[i]] or not known) then
            found[#found + 1] = { position, ids[i], at, needed }
        end
    end
end

for _, entry in ipairs(cmsgpack.unpack(ARGV[1])) do
    local position, watch = unpack(entry)
    local key, question, newest, members = unpack(watch)
    local needed, width, keep, past = unpack(question)
    local additions = {}
    for i, member in ipairs(members) do
        additions[2 * i - 1], additions[2 * i] = member[1], member[2]
    end
    local added = call('ZADD', key, 'NX', unpack(additions))
    local size = call('ZCARD', key)

    if size >= needed then
        local latest_start = call('ZRANGE', key, size - needed, size - needed, 'WITHSCORES')[2]
        if members[1][1] - latest_start < width then
            look(position, key, size, needed, width, members, added < #members)
        end
    end
    call('ZREMRANGEBYSCORE', key, '-inf', newest - past)
    if math.floor(size / SLACK) > math.floor((size - added) / SLACK) then
        call('ZREMRANGEBYRANK', key, 0, -keep - 1)
    end
    retain(key, width / 1e6 + LEAST_GRACE, past / 1e6 + GRACE)
end

return cmsgpack.pack(found)
