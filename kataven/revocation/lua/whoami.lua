-- Prepended to every script: identifies this Redis server.
--
-- The identity changes whenever this server may have lost state that workers and revokers rely on:
--   run_id          another process: a restart, with or without its data, or another machine
--   master_replid   another term as a primary: a replica was promoted, or demoted and promoted again
--   born            another dataset: FLUSHALL, or an evicted or deleted key
-- All protocol state is in the one hash `state`, so it is lost completely or not at all.

redis.replicate_commands() -- INFO and TIME run before writes; a no-op since Redis 7

local function whoami(state, nonce)
  redis.call('HSETNX', state, 'born', nonce)
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local term = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
  return run .. '.' .. term .. '.' .. redis.call('HGET', state, 'born')
end

local function microseconds()
  local time = redis.call('TIME')
  return string.format('%.0f', time[1] * 1000000 + time[2])
end
