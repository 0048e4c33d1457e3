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

-- Visits are counted by when they end, in steps of five minutes: a counter is a hash of at most 26 small numbers, however
-- many visits there are, and what was counted is forgotten by itself. A visit counts for up to one step too long.
local STEP = 300000

local function step_of(at)
  return string.format('%.0f', math.floor(at / STEP))
end

local function count(counter, good_until, longest)
  redis.call('HINCRBY', counter, step_of(good_until), 1)
  redis.call('PEXPIRE', counter, string.format('%.0f', longest + STEP))
end

local function count_later(counter, before, after, longest)
  local from = step_of(before)
  if tonumber(redis.call('HGET', counter, from) or '0') > 0 then -- else another release began the visit, uncounted
    redis.call('HINCRBY', counter, from, -1)
    count(counter, after, longest)
  end
end

-- Which of the counters KEYS[2] and on is at its limit, if one is, and in how many milliseconds the next visits in it end.
local function full(at, first_limit)
  for index = 2, #KEYS do
    local counts = redis.call('HGETALL', KEYS[index])
    local standing, next_step = 0, nil
    for position = 1, #counts, 2 do
      local step, visits = tonumber(counts[position]), tonumber(counts[position + 1])
      if step < math.floor(at / STEP) then
        redis.call('HDEL', KEYS[index], counts[position])
      elseif visits > 0 then
        standing = standing + visits
        next_step = math.min(next_step or step, step)
      end
    end
    if standing >= tonumber(ARGV[first_limit + index - 2]) then
      local milliseconds = next_step and (next_step + 1) * STEP - at or STEP
      return { 'full', tostring(index - 2), string.format('%.0f', milliseconds) }
    end
  end
end
