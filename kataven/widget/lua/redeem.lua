-- Uses a user token: returns its user once, and records that it was used.
--
-- KEYS token, counters of the new session
-- ARGV account, now in milliseconds ('': clock of Redis), limits of the counters

local expires_at, account, user = unpack(redis.call('HMGET', KEYS[1], 'expires_at', 'account', 'minted'))
if not expires_at then
  return { 'unknown' }
end
if account ~= ARGV[1] then
  return { 'account' } -- the token remains valid for its own account
end
if redis.call('HEXISTS', KEYS[1], 'used') == 1 then
  return { 'used' }
end
if now(ARGV[2]) >= tonumber(expires_at) then
  return { 'expired' }
end
local refused = full(now(ARGV[2]), 3)
if refused then
  return refused -- the token remains valid for a retry
end
redis.call('HSET', KEYS[1], 'used', '1')
redis.call('HDEL', KEYS[1], 'minted') -- the user's data is no longer needed
return { 'good', user }
