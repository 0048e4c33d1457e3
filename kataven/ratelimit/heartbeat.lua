-- Renews a worker's membership, and renews or adds its concurrency slots.
--
-- KEYS    1 the set of workers, 2... the set that contains each slot
-- ARGV    1 now in microseconds, or '' to use this server's clock; 2 the lease of a slot in milliseconds; 3 the lease of
--         a worker in milliseconds; 4 the worker; 5 'renew', or 'take' to add slots that are not stored; 6... the slots
-- returns the number of running workers

local now, lease, worker_lease = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local expiry = now + lease * 1000

redis.call('ZADD', KEYS[1], now + worker_lease * 1000, ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], worker_lease)
for index = 2, #KEYS do
  -- XX: a slot that was released in the meantime is not added again.
  redis.call('ZADD', KEYS[index], ARGV[5] == 'take' and 'CH' or 'XX', expiry, ARGV[index + 4])
  redis.call('PEXPIRE', KEYS[index], lease)
end
return redis.call('ZCARD', KEYS[1])
