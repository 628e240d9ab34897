-- Takes a portion of each limit, or of none. Says in how many microseconds all could be had; 0 if they are taken.
-- KEYS: the limits, which hold when each is whole again. ARGV: of each, how much, of how many, in which time.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local wait, next = 0, {}
for i, key in ipairs(KEYS) do
  local amount, most, period = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local whole = redis.pcall('GET', key)
  whole = type(whole) == 'string' and tonumber(whole) or now
  -- What is no such time was not written here, or the clock was set back.
  if not (whole > now and whole <= now + 1.01 * period) then whole = now end
  next[i] = whole + period * amount / most
  wait = math.max(wait, next[i] - now - period)
end
if wait >= 1 then return math.ceil(wait) end
for i, key in ipairs(KEYS) do
  if next[i] > now then
    redis.call('SET', key, string.format('%.0f', next[i]), 'PX', math.ceil((next[i] - now) / 1000))
  end
end
return 0
