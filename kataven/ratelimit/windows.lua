-- One atomic decision over every quota of every rate limit key (an account, an API key, an address): all or nothing.
--
-- KEYS    for each rate limit key: the key of its windows, the key of its concurrency slots
-- ARGV    1 'take' to consume if admitted, 'peek' to consume nothing
--         2 now in microseconds, or '' to use this server's clock, because the clocks of hosts differ
--         3 the lease of a concurrency slot in milliseconds
--         4 the cost: how many units the request takes of each window; it takes one concurrency slot at any cost
--         5... for each rate limit key the number of quotas, and for each quota its limit and its length in seconds
--         (0: concurrency); the last argument is the slot to acquire
-- returns admitted (1 or 0), then for each quota the used amount (including this request if it was admitted), and the
--         microseconds until a request of this cost is admitted or, if one is admitted now, until `used` decreases
--         (0: concurrency)
--
-- A window is a queue of buckets, oldest first. A bucket counts the requests that arrived within one sixtieth of the
-- window's length, and stores the time of the *last* of them. The whole bucket expires when that request is one window
-- length old. So no request expires early, none more than a sixtieth of the window late, and 61 buckets are enough.
-- The windows of a rate limit key are one string: for each window its length in seconds, total and size in bytes, then
-- its buckets.

local BUCKETS, BUCKET_BYTES = 60, 12
local WINDOW, BUCKET = '<I4I4I4', '<I8I4'
local call, pack, unpack, sub, floor = redis.call, struct.pack, struct.unpack, string.sub, math.floor

local now, cost = tonumber(ARGV[2]), tonumber(ARGV[4])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

-- The window with this length: its total and its buckets.
local function find(stored, seconds)
  local at = 1
  while at <= #stored do
    local found, total, bytes, first = unpack(WINDOW, stored, at)
    if found == seconds then return total, sub(stored, first, first + bytes - 1) end
    at = first + bytes
  end
  return 0, ''
end

-- Removes buckets that are one window length old, and buckets in the future, which exist if the clock was set back.
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

-- Microseconds until `excess` requests have left the window.
local function frees_in(excess, buckets, length)
  local last, count, at = now, 0, 1
  while excess > 0 and at < #buckets do
    last, count, at = unpack(BUCKET, buckets, at)
    excess = excess - count
  end
  return last + length - now
end

-- Adds the cost of one request to the buckets.
local function add(buckets, length)
  if buckets == '' then return pack(BUCKET, now, cost) end
  local width, newest = length / BUCKETS, #buckets - BUCKET_BYTES + 1
  local last, count = unpack(BUCKET, buckets, newest)
  local at = last > now and last or now
  if floor(last / width) ~= floor(at / width) then return buckets .. pack(BUCKET, at, cost) end
  return sub(buckets, 1, newest - 1) .. pack(BUCKET, at, count + cost)
end

local refused, taken, writes, slots = {0}, {1}, {}, {}
local admitted, argument, n = true, 5, 1
for number = 1, #KEYS, 2 do
  local stored, written, longest = call('GET', KEYS[number]) or '', '', 0
  for index = argument + 1, argument + ARGV[argument] * 2, 2 do
    local limit, seconds = tonumber(ARGV[index]), tonumber(ARGV[index + 1])
    local used, frees, later, units = 0, 0, 0, cost
    if seconds > 0 then
      local length, total, buckets = seconds * 1000000, find(stored, seconds)
      used, buckets = slide(total, buckets, length)
      frees = frees_in(math.max(1, used - limit + cost), buckets, length)
      buckets = add(buckets, length)
      later = frees_in(1, buckets, length)
      written = written .. pack(WINDOW, seconds, used + cost, #buckets) .. buckets
      if seconds > longest then longest = seconds end
    else
      call('ZREMRANGEBYSCORE', KEYS[number + 1], '-inf', now)
      used = call('ZCARD', KEYS[number + 1])
      units = math.min(cost, 1)
      slots[#slots + 1] = KEYS[number + 1]
    end
    admitted = admitted and used + units <= limit
    refused[n + 1], refused[n + 2], taken[n + 1], taken[n + 2] = used, frees, used + units, later
    n = n + 2
  end
  if longest > 0 then writes[number] = {written, longest} end
  argument = argument + 1 + ARGV[argument] * 2
end
if not admitted then return refused end
if ARGV[1] == 'peek' then refused[1] = 1 return refused end

for number, write in pairs(writes) do call('SET', KEYS[number], write[1], 'EX', write[2]) end
for _, key in ipairs(slots) do
  call('ZADD', key, now + ARGV[3] * 1000, ARGV[#ARGV])
  call('PEXPIRE', key, ARGV[3])
end
return taken
