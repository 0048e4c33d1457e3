-- Removes workers from the list, each only if its record is unchanged: a worker that has renewed remains.
--
-- KEYS state    ARGV worker, record, worker, record, ...

local swept = 0
for i = 1, #ARGV, 2 do
  local field = 'worker:' .. ARGV[i]
  if redis.call('HGET', KEYS[1], field) == ARGV[i + 1] then
    swept = swept + redis.call('HDEL', KEYS[1], field)
  end
end
return swept
