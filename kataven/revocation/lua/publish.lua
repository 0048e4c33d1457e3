-- Publishes one event: increments the epoch, publishes the event and returns the list of workers, atomically.
-- Records the revoked key, if the event revokes one: see `recently_revoked` in coordination.py.
--
-- KEYS state, pending, recent (key to generation), recent_times (key to milliseconds)
-- ARGV nonce, channel, body, milliseconds to keep `pending` (0: no acknowledgement needed),
--      revoked key (empty: none), its generation (empty: all), milliseconds to keep it, how many keys to keep

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

if ARGV[5] ~= '' then
  local now = math.floor(tonumber(microseconds()) / 1000)
  local known = redis.call('HGET', KEYS[3], ARGV[5])
  -- A higher generation covers more, and no generation covers all.
  if not known or (known ~= '' and (ARGV[6] == '' or tonumber(ARGV[6]) > tonumber(known))) then
    redis.call('HSET', KEYS[3], ARGV[5], ARGV[6])
  end
  redis.call('ZADD', KEYS[4], now, ARGV[5])
  local old = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now - tonumber(ARGV[7]), 'LIMIT', 0, 100)
  if #old == 0 then
    local excess = math.min(redis.call('ZCARD', KEYS[4]) - tonumber(ARGV[8]), 100)
    if excess > 0 then
      old = redis.call('ZRANGE', KEYS[4], 0, excess - 1)
    end
  end
  if #old > 0 then
    redis.call('HDEL', KEYS[3], unpack(old))
    redis.call('ZREM', KEYS[4], unpack(old))
  end
end

-- In a cluster, SPUBLISH sends the message to the nodes with the slot of KEYS, where the workers are subscribed. PUBLISH
-- would send it to every node. `publishes_to_shard` in scripts.py decides the same for subscribers.
local server = redis.call('INFO', 'server')
local version = tonumber(string.match(server, 'redis_version:(%d+)')) or 0
local command = (string.find(server, '_mode:cluster') and version >= 7) and 'SPUBLISH' or 'PUBLISH'
redis.call(command, ARGV[2], redis_id .. ' ' .. count .. ' ' .. ARGV[3])
return { redis_id, tostring(count), microseconds(), workers }
