-- A visit begins. It is remembered for as long as its refresh token is good, and no longer.
--
-- KEYS visit, counters of its widget key, its account and all
-- ARGV digest, now, record, milliseconds that the first refresh token is good for, and the whole visit; the counters' limits

local began = now(ARGV[2])
local refused = full(began, 6)
if refused then
  return refused
end
local over_at = began + tonumber(ARGV[5])
local good_until = math.min(over_at, began + tonumber(ARGV[4]))
redis.call('HSET', KEYS[1], 'current', ARGV[1], 'record', ARGV[3],
  'good_until', string.format('%.0f', good_until), 'over_at', string.format('%.0f', over_at))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', good_until - began))
for index = 2, #KEYS do
  count(KEYS[index], good_until, tonumber(ARGV[4]))
end
return { 'good' }
