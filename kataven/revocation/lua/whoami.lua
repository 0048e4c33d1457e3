-- Put before every script: which Redis is this?
--
-- The answer changes whenever this server may have forgotten something that a worker or a revoker counts on:
--   run_id          another process: a restart, with or without its data, or another machine
--   master_replid   another reign: a replica was promoted, or demoted and promoted again
--   born            another memory: FLUSHALL, an evicted or deleted key
-- All that the room keeps is in the one hash `state`, so that it is lost as a whole or not at all.

redis.replicate_commands() -- INFO and TIME come before writes; a no-op since Redis 7

local function whoami(state, nonce)
  redis.call('HSETNX', state, 'born', nonce)
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local reign = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
  return run .. '.' .. reign .. '.' .. redis.call('HGET', state, 'born')
end

local function microseconds()
  local time = redis.call('TIME')
  return string.format('%.0f', time[1] * 1000000 + time[2])
end
