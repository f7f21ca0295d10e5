-- What every script knows of an entry; this text stands before each of them.
--
-- An entry of a queue is one message, or a bundle of messages that travel together, under an id that begins with
-- their number, as `100*9f3c`. The first line of a bundle is what its messages have in common, the start of their
-- JSON; then comes a line for each, of its options and its argument, both JSON without a blank between two tokens.
--
-- A full Redis (`maxmemory`) refuses the first write of a script if it may enlarge memory, but not what comes after
-- a write that cannot. Fetching and settling free memory in the end, so every script of theirs begins by removing
-- something; else a full Redis would stop the very workers that empty it. `accept.lua` and `enqueue.lua` are refused.

local function is_bundle(id)
    return string.find(id, '^%d+%*') ~= nil
end

local function size(id)
    return tonumber(string.match(id, '^(%d+)%*')) or 1
end

-- Most workers die of something else than what they hold: only who held it when two died, or whose batch failed (it is
-- a part of one that was taken apart), is to be processed alone.
local function is_isolated(id, crashes)
    return tonumber(crashes or 0) >= 2 or string.find(id, '^%d+%.') ~= nil
end

local function sizes(ids)
    local sum = 0
    for _, id in ipairs(ids) do
        sum = sum + size(id)
    end
    return sum
end
