-- Replace the published rules, unless the same or a newer revision of the same epoch is already published.
--
-- KEYS = snapshot, revision
-- ARGV = the new snapshot, and the epoch and the number of its revision
-- Returns the revision that is published now, as "<epoch>:<number>".
--
-- A database that was restored from a backup starts a new epoch. A revision of a new epoch replaces the published
-- revision even if the published revision has a higher number.

bypass_oom() -- a full Redis must accept a suspension: otherwise evaluation, which frees memory, could not continue
local published = redis.call('GET', KEYS[2]) or ''
local epoch, number = string.match(published, '^(.*):(%d+)$')
if epoch == ARGV[2] and tonumber(ARGV[3]) <= tonumber(number) then
    return published
end
local revision = ARGV[2] .. ':' .. ARGV[3]
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], revision)
return revision
