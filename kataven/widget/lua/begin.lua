-- A visit begins. It is remembered for as long as its refresh token is good, and no longer.
--
-- KEYS visit    ARGV digest, now, record, milliseconds that the first refresh token is good for, and the whole visit

local began = now(ARGV[2])
local over_at = began + tonumber(ARGV[5])
local good_until = math.min(over_at, began + tonumber(ARGV[4]))
redis.call('HSET', KEYS[1], 'current', ARGV[1], 'record', ARGV[3],
  'good_until', string.format('%.0f', good_until), 'over_at', string.format('%.0f', over_at))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', good_until - began))
return { 'good' }
