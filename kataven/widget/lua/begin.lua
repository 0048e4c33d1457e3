-- A visit begins. Its memory outlives it by nothing: `over_at` is the end of both.
--
-- KEYS visit    ARGV digest, now, record, milliseconds that the first refresh token is good for, and the whole visit

local began = now(ARGV[2])
local over_at = began + tonumber(ARGV[5])
local good_until = math.min(over_at, began + tonumber(ARGV[4]))
redis.call('HSET', KEYS[1], 'current', ARGV[1], 'record', ARGV[3],
  'good_until', string.format('%.0f', good_until), 'over_at', string.format('%.0f', over_at))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return { 'good' }
