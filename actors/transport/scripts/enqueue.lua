-- Enqueue one entry, now or after a delay.
--
-- ARGV[1]  { queue, entry id, bytes, delay in ms (0: now) }
-- Returns  number of messages enqueued: 0 if the id is already in the queue

return enqueue(KEYS[1], now_ms(), unpack(cmsgpack.unpack(ARGV[1])))
