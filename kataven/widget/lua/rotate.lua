-- Extends a session with the next refresh token, if the one that was sent is the current one.
--
-- KEYS session, counters of its widget key, its account and the installation
-- ARGV digest, now in milliseconds, digest of the next token, lifetime of the next token in milliseconds

local state = session_state(KEYS[1], ARGV[1], ARGV[2])
if state == 'good' then
  local over_at, before = unpack(redis.call('HMGET', KEYS[1], 'over_at', 'good_until'))
  over_at = tonumber(over_at)
  local at = now(ARGV[2])
  local good_until = math.min(over_at, at + tonumber(ARGV[4]))
  redis.call('HSET', KEYS[1], 'current', ARGV[3], 'good_until', string.format('%.0f', good_until))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', good_until - at))
  for index = 2, #KEYS do
    count_later(KEYS[index], tonumber(before), good_until, tonumber(ARGV[4]))
  end
end
return { state }
