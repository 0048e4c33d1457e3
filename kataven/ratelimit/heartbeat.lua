-- A worker lives: it is counted among the workers, and the slots that it still holds are renewed, or taken.
--
-- KEYS    1 the workers, 2... where each slot is
-- ARGV    1 now in microseconds, or '' for this server's own clock; 2 the lease of a slot in milliseconds; 3 that of a worker
--         4 the worker; 5 'renew', or 'take' for slots that Redis has not heard of; 6... the slots
-- returns how many workers live

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
  -- XX: a slot that was given back in the meantime stays given back.
  redis.call('ZADD', KEYS[index], ARGV[5] == 'take' and 'CH' or 'XX', expiry, ARGV[index + 4])
  redis.call('PEXPIRE', KEYS[index], lease)
end
return redis.call('ZCARD', KEYS[1])
