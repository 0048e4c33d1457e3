-- One decision over every quota of every scope (an account, a key, an address), all or nothing, in one step.
--
-- KEYS    for each scope: where its windows are, where its slots are
-- ARGV    1 'take' to consume if admitted, 'look' to consume nothing
--         2 now in microseconds, or '' for this server's own clock, so that the hosts' clocks don't matter
--         3 how long an in-flight slot lives unless renewed, in milliseconds
--         4... for each scope how many quotas it has, and for each quota its limit and its length in seconds (0: in flight)
--         and last the slot to take
-- returns admitted (1 or 0), then for each quota what is used (this request counted, if it was admitted), and in how
--         many microseconds one more request fits or, where one fits already, `used` falls by itself (0: in flight)
--
-- A window is a queue of buckets, oldest first. A bucket counts the requests that came within one sixtieth of the window's
-- length, and remembers when the *last* of them came. It leaves as a whole when that last one is a full length old. So
-- nothing is forgotten early, and nothing is remembered more than a sixtieth too long, in at most 61 buckets.
-- A scope's windows are one string: for each its length in seconds, total and size in bytes, then its buckets.

local BUCKETS, BUCKET_BYTES = 60, 12
local WINDOW, BUCKET = '<I4I4I4', '<I8I4'
local call, pack, unpack, sub, floor = redis.call, struct.pack, struct.unpack, string.sub, math.floor

local now = tonumber(ARGV[2])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- The window of this many seconds: its total and its buckets.
local function find(stored, seconds)
  local at = 1
  while at <= #stored do
    local found, total, bytes, first = unpack(WINDOW, stored, at)
    if found == seconds then return total, sub(stored, first, first + bytes - 1) end
    at = first + bytes
  end
  return 0, ''
end

-- Without the buckets that are a full length old, nor those from a future that a clock set back has undone.
local function slide(total, buckets, length)
  local first = 1
  while first < #buckets do
    local last, count = unpack(BUCKET, buckets, first)
    if now - last < length and last - now < length then break end
    total = total - count
    first = first + BUCKET_BYTES
  end
  return total, first == 1 and buckets or sub(buckets, first)
end

-- Microseconds until this many requests have left.
local function frees_in(excess, buckets, length)
  local last, count, at = now, 0, 1
  while excess > 0 and at < #buckets do
    last, count, at = unpack(BUCKET, buckets, at)
    excess = excess - count
  end
  return last + length - now
end

-- The buckets with one request more.
local function add(buckets, length)
  if buckets == '' then return pack(BUCKET, now, 1) end
  local width, newest = length / BUCKETS, #buckets - BUCKET_BYTES + 1
  local last, count = unpack(BUCKET, buckets, newest)
  local at = last > now and last or now
  if floor(last / width) ~= floor(at / width) then return buckets .. pack(BUCKET, at, 1) end
  return sub(buckets, 1, newest - 1) .. pack(BUCKET, at, count + 1)
end

local refused, taken, writes, slots = {0}, {1}, {}, {}
local admitted, argument, n = true, 4, 1
for number = 1, #KEYS, 2 do
  local stored, written, longest = call('GET', KEYS[number]) or '', '', 0
  for index = argument + 1, argument + ARGV[argument] * 2, 2 do
    local limit, seconds = tonumber(ARGV[index]), tonumber(ARGV[index + 1])
    local used, frees, later = 0, 0, 0
    if seconds > 0 then
      local length, total, buckets = seconds * 1000000, find(stored, seconds)
      used, buckets = slide(total, buckets, length)
      frees = frees_in(math.max(1, used - limit + 1), buckets, length)
      buckets = add(buckets, length)
      later = frees_in(1, buckets, length)
      written = written .. pack(WINDOW, seconds, used + 1, #buckets) .. buckets
      if seconds > longest then longest = seconds end
    else
      call('ZREMRANGEBYSCORE', KEYS[number + 1], '-inf', now)
      used = call('ZCARD', KEYS[number + 1])
      slots[#slots + 1] = KEYS[number + 1]
    end
    admitted = admitted and used < limit
    refused[n + 1], refused[n + 2], taken[n + 1], taken[n + 2] = used, frees, used + 1, later
    n = n + 2
  end
  if longest > 0 then writes[number] = {written, longest} end
  argument = argument + 1 + ARGV[argument] * 2
end
if not admitted then return refused end
if ARGV[1] == 'look' then refused[1] = 1 return refused end

for number, write in pairs(writes) do call('SET', KEYS[number], write[1], 'EX', write[2]) end
for _, key in ipairs(slots) do
  call('ZADD', key, now + ARGV[3] * 1000, ARGV[#ARGV])
  call('PEXPIRE', key, ARGV[3])
end
return taken
