-- Adds the usage of one account that a worker admitted locally to the windows. A repeated report counts once.
--
-- KEYS    1 the number of this worker's last report of this account, 2... the windows of each of its rate limit keys, as
--         in `windows.lua`; all keys are in one slot of a cluster
-- ARGV    1 now in microseconds, or '' to use this server's clock; 2 the number of the report
--         3... for each rate limit key the number of windows; for each window its length in seconds and the number of
--         buckets; for each bucket its age in microseconds and its count
-- returns the used amount of each reported window

local BUCKETS, BUCKET_BYTES = 60, 12
local WINDOW, BUCKET = '<I4I4I4', '<I8I4'
local call, pack, unpack, floor = redis.call, struct.pack, struct.unpack, math.floor

local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
-- A worker sends one report at a time, so only the last one can be repeated.
local repeated = call('GET', KEYS[1]) == ARGV[2]
local argument, longest_reported = 3, 0

local function next_number()
  argument = argument + 1
  return tonumber(ARGV[argument - 1])
end

-- The windows of a rate limit key by length in seconds, each a list of {last, count}.
local function read(stored)
  local windows, at = {}, 1
  while at <= #stored do
    local seconds, _, bytes, first = unpack(WINDOW, stored, at)
    windows[seconds] = {}
    for place = first, first + bytes - 1, BUCKET_BYTES do
      local last, count = unpack(BUCKET, stored, place)
      if math.abs(now - last) < seconds * 1000000 then table.insert(windows[seconds], {last, count}) end
    end
    at = first + bytes
  end
  return windows
end

-- Encodes one window and returns its total. Buckets within the same sixtieth of the window are merged.
local function write(seconds, buckets)
  table.sort(buckets, function(one, other) return one[1] < other[1] end)
  local width, total, kept = seconds * 1000000 / BUCKETS, 0, {}
  for _, bucket in ipairs(buckets) do
    local newest = kept[#kept]
    total = total + bucket[2]
    if newest and floor(newest[1] / width) == floor(bucket[1] / width) then
      kept[#kept] = {bucket[1], newest[2] + bucket[2]}
    else
      kept[#kept + 1] = bucket
    end
  end
  local packed = {}
  for place, bucket in ipairs(kept) do packed[place] = pack(BUCKET, bucket[1], bucket[2]) end
  local bytes = table.concat(packed)
  return pack(WINDOW, seconds, total, #bytes) .. bytes, total
end

local used = {}
for index = 2, #KEYS do
  local windows, reported = read(call('GET', KEYS[index]) or ''), {}
  for _ = 1, next_number() do
    local seconds = next_number()
    windows[seconds] = windows[seconds] or {}
    reported[#reported + 1] = seconds
    for _ = 1, next_number() do
      local age, count = next_number(), next_number()
      if not repeated and age < seconds * 1000000 then table.insert(windows[seconds], {now - age, count}) end
    end
    if seconds > longest_reported then longest_reported = seconds end
  end
  local written, totals, longest = {}, {}, 0
  for seconds, buckets in pairs(windows) do
    written[#written + 1], totals[seconds] = write(seconds, buckets)
    if seconds > longest then longest = seconds end
  end
  if not repeated then call('SET', KEYS[index], table.concat(written), 'EX', longest) end
  for _, seconds in ipairs(reported) do used[#used + 1] = totals[seconds] end
end
-- After this time, all requests in the report have expired, so a repetition would add nothing.
if not repeated then call('SET', KEYS[1], ARGV[2], 'EX', longest_reported) end
return used
