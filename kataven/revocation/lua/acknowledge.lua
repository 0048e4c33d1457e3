-- A worker has evicted what an event covers. The last acknowledgement wakes the revoker, which waits on `done`.
--
-- KEYS pending, done    ARGV worker, milliseconds to keep `done`

if redis.call('SREM', KEYS[1], ARGV[1]) == 1 and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('RPUSH', KEYS[2], microseconds())
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
return redis.status_reply('OK')
