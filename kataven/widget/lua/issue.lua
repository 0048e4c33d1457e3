-- Remember a user token, and for a while after its end that it was one.
--
-- KEYS token    ARGV account, minted, milliseconds to live, milliseconds to be remembered, now ('': this Redis's clock)

local expires_at = now(ARGV[5]) + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'account', ARGV[1], 'minted', ARGV[2], 'expires_at', string.format('%.0f', expires_at))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return redis.status_reply('OK')
