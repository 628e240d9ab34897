-- Tells something of a circuit. KEYS: the hash of words. ARGV: the circuit, "o" (open) or "c" (closed), for how many
-- microseconds it is open, and the rest of the word.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local day, minute = 86400000000, 60000000
local known = redis.pcall('HGET', KEYS[1], ARGV[1])
if type(known) == 'table' then
  redis.call('DEL', KEYS[1])
  known = false
end
local ends, kind = string.match(known or '', '^1 (%d+) %d+ ([oc]) ')
ends = tonumber(ends)
if ends and ends > now + day then kind = nil end
local open = ARGV[2] == 'o'
local till = now + (open and tonumber(ARGV[3]) or minute)
if kind == 'o' and open and ends >= till then return 0 end
if kind == 'c' and not open and ends > now then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('1 %.0f %.0f %s %s', till, now, ARGV[2], ARGV[4]))
redis.call('PEXPIRE', KEYS[1], day / 1000)
-- Nobody asks for what has ended.
if redis.call('HLEN', KEYS[1]) > 64 then
  local words = redis.call('HGETALL', KEYS[1])
  for i = 1, #words, 2 do
    local over = tonumber(string.match(words[i + 1], '^1 (%d+) '))
    if over and over <= now then redis.call('HDEL', KEYS[1], words[i]) end
  end
end
return 0
