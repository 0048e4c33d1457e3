-- Renews a worker's membership among the running workers.
--
-- KEYS    the set of workers
-- ARGV    1 now in microseconds, or '' to use this server's clock; 2 the lease of a worker in milliseconds; 3 the worker
-- returns the number of running workers

local now, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

redis.call('ZADD', KEYS[1], now + lease * 1000, ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], lease)
return redis.call('ZCARD', KEYS[1])
