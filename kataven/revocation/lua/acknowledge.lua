-- A worker has evicted what an event covers. The last acknowledgement wakes the revoker, which waits on `done`.
--
-- `times` records, for each worker, when it acknowledged and how many microseconds before that it received the event. It
-- is for receipts only: the protocol does not rely on it.
--
-- KEYS pending, done, times    ARGV worker, milliseconds to keep `done` and `times`, microseconds since the worker received

if redis.call('SREM', KEYS[1], ARGV[1]) == 1 then
  local now = microseconds()
  redis.call('HSET', KEYS[3], ARGV[1], now .. ' ' .. ARGV[3])
  redis.call('PEXPIRE', KEYS[3], ARGV[2])
  if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('RPUSH', KEYS[2], now)
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
  end
end
return redis.status_reply('OK')
