-- A user token is shown: give out what it stands for, once, and remember that it was.
--
-- KEYS token, counters of the visit that begins    ARGV account, now in milliseconds ('' is the clock of this Redis), their limits

local expires_at, account, minted = unpack(redis.call('HMGET', KEYS[1], 'expires_at', 'account', 'minted'))
if not expires_at then
  return { 'unknown' }
end
if account ~= ARGV[1] then
  return { 'account' } -- and it stays good: whose it is has not shown it
end
if redis.call('HEXISTS', KEYS[1], 'used') == 1 then
  return { 'used' }
end
if now(ARGV[2]) >= tonumber(expires_at) then
  return { 'expired' }
end
local refused = full(now(ARGV[2]), 3)
if refused then
  return refused -- and it stays good, for when there is room
end
redis.call('HSET', KEYS[1], 'used', '1')
redis.call('HDEL', KEYS[1], 'minted') -- who the user is need not be kept any longer
return { 'good', minted }
