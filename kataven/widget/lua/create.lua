-- Stores a new visitor session for the lifetime of its refresh token.
--
-- KEYS session, counters of its widget key, its account and the installation
-- ARGV digest, now, record, lifetimes in milliseconds of the first refresh token and of the session, limits of counters

local started = now(ARGV[2])
local refused = full(started, 6)
if refused then
  return refused
end
local over_at = started + tonumber(ARGV[5])
local good_until = math.min(over_at, started + tonumber(ARGV[4]))
redis.call('HSET', KEYS[1], 'current', ARGV[1], 'record', ARGV[3],
  'good_until', string.format('%.0f', good_until), 'over_at', string.format('%.0f', over_at))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', good_until - started))
for index = 2, #KEYS do
  count(KEYS[index], good_until, tonumber(ARGV[4]))
end
return { 'good' }
