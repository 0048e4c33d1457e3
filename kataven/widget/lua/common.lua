-- Prepended to every script. Scripts use the clock of Redis, because the clocks of hosts differ. Tests pass a clock.

redis.replicate_commands() -- TIME is called before writes; a no-op since Redis 7

local function now(given)
  if given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The state of a session for this digest. A digest that is not the current one was used before, which ends the session.
local function session_state(session, digest, given)
  local current, good_until, record = unpack(redis.call('HMGET', session, 'current', 'good_until', 'record'))
  if not current then
    return 'unknown'
  end
  if current ~= digest then
    redis.call('HSET', session, 'current', 'ended')
    redis.call('HDEL', session, 'record')
    return 'reused'
  end
  if now(given) >= tonumber(good_until) then
    return 'unknown'
  end
  return 'good', record
end

-- Sessions are counted by their expiry in steps of five minutes. A counter is a hash of at most 26 small numbers, for
-- any number of sessions, and counts expire automatically. A session is counted for up to one step too long.
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
  -- Sessions of older releases were not counted.
  if tonumber(redis.call('HGET', counter, from) or '0') > 0 then
    redis.call('HINCRBY', counter, from, -1)
    count(counter, after, longest)
  end
end

-- The first of the counters from KEYS[2] on that is at its limit, and the milliseconds until its next sessions expire.
local function full(at, first_limit)
  for index = 2, #KEYS do
    local counts = redis.call('HGETALL', KEYS[index])
    local total, next_step = 0, nil
    for position = 1, #counts, 2 do
      local step, sessions = tonumber(counts[position]), tonumber(counts[position + 1])
      if step < math.floor(at / STEP) then
        redis.call('HDEL', KEYS[index], counts[position])
      elseif sessions > 0 then
        total = total + sessions
        next_step = math.min(next_step or step, step)
      end
    end
    if total >= tonumber(ARGV[first_limit + index - 2]) then
      local milliseconds = next_step and (next_step + 1) * STEP - at or STEP
      return { 'full', tostring(index - 2), string.format('%.0f', milliseconds) }
    end
  end
end
