-- Stores a user token, and keeps it for some time after its expiry.
--
-- KEYS token    ARGV account, user, lifetime in milliseconds, milliseconds until deletion, now ('': clock of Redis)

local expires_at = now(ARGV[5]) + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'account', ARGV[1], 'minted', ARGV[2], 'expires_at', string.format('%.0f', expires_at))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return redis.status_reply('OK')
