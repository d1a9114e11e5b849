-- forecast: how many slots the pool will have and how many of them are reserved, by quarters of an hour.
-- include base
-- include lease
-- include queue
-- key base: the pool's prefix, zp:{pool}:
-- arg count: how many quarters, this one included; 3000 at most
-- returns {now_ms, first quarter's ms, slots free now, capacity and reserved of each quarter}: reservations only
-- error none
local base = KEYS[1]
local count = math.min(tonumber(ARGV[1]), 3000)

local now = clock(base)
local first = math.floor(now / QUARTER_MS)
local free = read('ZCARD', base .. 'free')
local in_rotation = free + read('ZCARD', base .. 'leased') + read('ZCARD', base .. 'suspect')
local names = {}
for i = 1, count do
  names[i] = digits(first + i - 1)
end
local booked = count > 0 and read('HMGET', base .. 'booked', unpack(names)) or {}
local away = read('ZCOUNT', base .. 'parked', '-inf', '(inf') > 0
local answer = {now, first * QUARTER_MS, free}
for i = 1, count do
  local back = away and redis.call('ZCOUNT', base .. 'parked', '-inf', digits((first + i - 1) * QUARTER_MS)) or 0
  answer[#answer + 1] = in_rotation + back
  answer[#answer + 1] = tonumber(booked[i] or 0)
end
return answer
