-- Visit some keys of windows and cooldowns: delete the keys without an owner, count and measure the others.
--
-- ARGV[1]  msgpack: {revision, cursor, count, pattern, {owner -> {every, ttl}}, complete}
--            revision  of the rules with these owners; if other rules are published, the script does nothing
--            count     approximate number of keys to visit
--            every     1 measures all keys, 2 the keys of one group in two, and so on; 0 measures no key
--            ttl       maximum time in seconds until a key expires; 0: no maximum
--            complete  false: keys that several rules share are not deleted, because some owners are unknown
-- Reply    msgpack: {cursor, number of deleted keys, {{owner, windows, cooldowns, bytes}, …}}; {} if other rules are published
--
-- An owner is the part of a key between its kind and its group, with the colon at its end; see owners.py.
-- The script is atomic: a worker writes the keys of a rule only after the rule was published, so a key that has no owner
-- in the published revision is not in use.

bypass_oom()
local call = redis.call
local revision, cursor, count, pattern, owners, complete = unpack(cmsgpack.unpack(ARGV[1]))
if call('GET', 'eventpulse:rules.revision') ~= revision then
    return cmsgpack.pack({})
end
local orphans, tallies = {}, {}

-- Return the owner of a key, or nil; and the remainder of the key: its group and, in parts of a window, a suffix.
local function owner_of(first, rest)
    if owners[first] then
        return first, rest
    end
    local second, remainder = string.match(rest, '^([^:]*:)(.*)$')
    if second and owners[first .. second] then
        return first .. second, remainder
    end
end

-- Return whether a key is measured. All keys of a group are measured, or none of them.
local function is_measured(group, every)
    return every == 1 or every > 1 and (tonumber(string.sub(group, 1, 6), 16) or 0) % every == 0
end

local function count_key(key, kind, owner, group)
    local every, ttl = unpack(owners[owner])
    local tally = tallies[owner] or { owner, 0, 0, 0 }
    tallies[owner] = tally
    if not string.find(group, ':', 1, true) then
        local position = kind == 'window' and 2 or 3
        tally[position] = tally[position] + 1
    end
    if is_measured(group, every) then
        -- The default number of samples: all members of a window have the same size, and a window may be large.
        tally[4] = tally[4] + every * (call('MEMORY', 'USAGE', key) or 0)
    end
    if ttl > 0 and call('TTL', key) > ttl then
        call('EXPIRE', key, ttl)
    end
end

local reply = call('SCAN', cursor, 'MATCH', pattern, 'COUNT', count)
for _, key in ipairs(reply[2]) do
    local kind, first, rest = string.match(key, '^eventpulse:(%a+):([^:]*:)(.*)$')
    if kind == 'window' or kind == 'cooldown' then
        local owner, group = owner_of(first, rest)
        if owner then
            count_key(key, kind, owner, group)
        elseif complete or string.find(first, '-', 1, true) then -- only ids of rules contain a hyphen
            orphans[#orphans + 1] = key
        end
    end
end
if #orphans > 0 then
    call('UNLINK', unpack(orphans))
end
local list = {}
for _, tally in pairs(tallies) do
    list[#list + 1] = tally
end
return cmsgpack.pack({ reply[1], #orphans, list })
