-- Renews a worker's lease: writes its record and returns the current epoch, atomically.
-- Each heartbeat writes a different record, so a record that is unchanged between two reads was not renewed.
--
-- KEYS state    ARGV nonce, worker, record

local redis_id = whoami(KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], 'worker:' .. ARGV[2], microseconds() .. ' ' .. ARGV[3])
return { redis_id, redis.call('HGET', KEYS[1], 'count') or '0' }
