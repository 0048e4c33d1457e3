-- Renews or adds the concurrency slots that a worker holds for one account. All keys are in one slot of a cluster.
--
-- KEYS    the set that contains each concurrency slot
-- ARGV    1 now in microseconds, or '' to use this server's clock; 2 the lease of a slot in milliseconds; 3 'renew', or
--         'take' to add slots that are not stored; 4... the slots

local now, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local expiry = now + lease * 1000

for index = 1, #KEYS do
  -- XX: a slot that was released in the meantime is not added again.
  redis.call('ZADD', KEYS[index], ARGV[3] == 'take' and 'CH' or 'XX', expiry, ARGV[index + 3])
  redis.call('PEXPIRE', KEYS[index], lease)
end
return redis.status_reply('OK')
