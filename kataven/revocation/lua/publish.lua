-- Publishes one event: increments the epoch, publishes the event and returns the list of workers, atomically.
--
-- KEYS state, pending    ARGV nonce, channel, body, milliseconds to keep `pending` (0: no acknowledgement needed)

local redis_id = whoami(KEYS[1], ARGV[1])
local count = redis.call('HINCRBY', KEYS[1], 'count', 1)

local workers = {}
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local worker = string.match(fields[i], '^worker:(.+)$')
  if worker then
    workers[#workers + 1] = worker
    workers[#workers + 1] = fields[i + 1]
    if ARGV[4] ~= '0' then
      redis.call('SADD', KEYS[2], worker)
    end
  end
end
if ARGV[4] ~= '0' then
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end

-- In a cluster, SPUBLISH sends the message to the nodes with the slot of KEYS, where the workers are subscribed. PUBLISH
-- would send it to every node. `publishes_to_shard` in scripts.py decides the same for subscribers.
local server = redis.call('INFO', 'server')
local version = tonumber(string.match(server, 'redis_version:(%d+)')) or 0
local command = (string.find(server, '_mode:cluster') and version >= 7) and 'SPUBLISH' or 'PUBLISH'
redis.call(command, ARGV[2], redis_id .. ' ' .. count .. ' ' .. ARGV[3])
return { redis_id, tostring(count), microseconds(), workers }
