-- Put before every script. All time is this Redis's own, so that hosts may disagree; tests bring a clock along.

redis.replicate_commands() -- TIME comes before writes; a no-op since Redis 7

local function now(given)
  if given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function standing(visit, digest, given)
  local current, good_until, record = unpack(redis.call('HMGET', visit, 'current', 'good_until', 'record'))
  if not current then
    return 'unknown'
  end
  if current ~= digest then
    redis.call('HSET', visit, 'current', 'ended')
    redis.call('HDEL', visit, 'record')
    return 'reused'
  end
  if now(given) >= tonumber(good_until) then
    return 'unknown'
  end
  return 'good', record
end
