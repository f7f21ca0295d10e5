-- Replace an isolated bundle with its messages, which become isolated entries at the head of the list.
--
-- ARGV[1]  { queue, bundle id, { { message id, bytes }, ... } }
-- Returns  number of messages that were added: 0 if another consumer has split the bundle
--
-- The bundle is not leased before the split: if the worker crashes, the bundle is still at the head of the list.

local ns = KEYS[1]
local queue, bundle, parts = unpack(cmsgpack.unpack(ARGV[1]))
local full = ns .. ':' .. queue
local messages, crashes, isolated = full .. '.msgs', full .. '.crashes', full .. '.isolated'

bypass_oom(ns)
if redis.call('LREM', isolated, 1, bundle) == 0 then
    return 0
end

-- If the bundle has several messages, carry over at most one crash to each: usually one message caused all crashes.
local carried = tonumber(redis.call('HGET', crashes, bundle) or 0)
if size(bundle) > 1 then
    carried = math.min(carried, 1)
end
for i = #parts, 1, -1 do
    local id, data = unpack(parts[i])
    redis.call('HSET', messages, id, data)
    redis.call('LPUSH', isolated, id)
    if carried > 0 then
        redis.call('HSET', crashes, id, carried)
    end
end
redis.call('HDEL', messages, bundle)
redis.call('HDEL', crashes, bundle)
redis.call('INCRBY', full .. '.count', #parts - size(bundle))
return #parts
