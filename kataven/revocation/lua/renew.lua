-- A worker's lease: write its record, and say which epoch it is, in one step.
-- The record is new with every beat, so that whoever saw it twice unchanged knows how long nobody renewed it.
--
-- KEYS state    ARGV nonce, worker, record

local redis_id = whoami(KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], 'worker:' .. ARGV[2], microseconds() .. ' ' .. ARGV[3])
return { redis_id, redis.call('HGET', KEYS[1], 'count') or '0' }
