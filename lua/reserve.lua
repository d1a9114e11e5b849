-- reserve: keep a slot for a lesson from a while before its start until its end, if the pool has one for all that time.
-- include base
-- include lease
-- include queue
-- key base: the pool's prefix, zp:{pool}:
-- arg lesson: lesson id; its reservation, if it has one, is moved
-- arg start_ms: planned start
-- arg end_ms: planned end
-- arg lead_ms: how long before the start the slot is kept free
-- arg grace_ms: how long after the start, unless the lesson has claimed it
-- arg batch: how many tickets and reservations that lapsed or are over to clear first
-- arg events_maxlen: cap of the event stream
-- returns {'done', now_ms, from_ms}: reserved, or already so
-- returns {'overbooked', now_ms, from_ms, until_ms, reserved, capacity}: the fullest quarters of an hour are taken
-- returns {'past', now_ms}: the lesson should have begun long ago
-- error BAD_WINDOW: the end is not after the start, or more than a day after it
local base = KEYS[1]
local lesson = ARGV[1]
local start_ms = tonumber(ARGV[2])
local end_ms = tonumber(ARGV[3])
local lead_ms = tonumber(ARGV[4])
local grace_ms = tonumber(ARGV[5])
local batch = ARGV[6]
local events_maxlen = ARGV[7]

if end_ms <= start_ms or end_ms - start_ms > 86400000 then
  return redis.error_reply('BAD_WINDOW a lesson ends after it starts, and within a day')
end
local now = clock(base)
drop_lapsed(base, now, batch, events_maxlen)
check_pool(base)
check_queue(base)
local new = {from_ms = start_ms - lead_ms, end_ms = end_ms, lapse_ms = math.min(start_ms + grace_ms, end_ms)}
local old = reservation_of(base, lesson)
if old and tonumber(old.start_ms) == start_ms and tonumber(old.end_ms) == end_ms then
  return {'done', now, tonumber(old.from_ms)}
end
local running = read('HGET', base .. 'lessons', lesson)
if end_ms <= now or (new.lapse_ms <= now and not running) then
  return {'past', now}
end

local first, last = quarters(new)
local names = {}
for quarter = first, last do
  names[#names + 1] = digits(quarter)
end
local booked = redis.call('HMGET', base .. 'booked', unpack(names))
local own_first, own_last = 1, 0
if old then
  own_first, own_last = quarters(old)
end
local capacity = redis.call('ZCARD', base .. 'free') + redis.call('ZCARD', base .. 'leased')
  + redis.call('ZCARD', base .. 'suspect') + redis.call('ZCOUNT', base .. 'parked', '-inf', digits(new.from_ms))
local most, full_from, full_until = -1
for i = 1, #names do
  local quarter = first + i - 1
  local others = tonumber(booked[i] or 0)
  if not others then
    damaged(base .. 'booked', 'has a count that is no number')
  end
  if own_first <= quarter and quarter <= own_last then
    others = others - 1
  end
  if others > most then
    most, full_from = others, quarter
  end
  if others == most then
    full_until = quarter + 1
  end
end
if most >= capacity then
  return {'overbooked', now, full_from * QUARTER_MS, full_until * QUARTER_MS, most, capacity}
end

if old then
  remove_reservation(base, lesson, old)
end
for _, quarter in ipairs(names) do
  redis.call('HINCRBY', base .. 'booked', quarter, 1)
end
redis.call('HSET', base .. 'reservation:' .. lesson, 'lesson', lesson, 'start_ms', digits(start_ms),
  'end_ms', digits(end_ms), 'from_ms', digits(new.from_ms), 'lapse_ms', digits(new.lapse_ms))
if running then
  redis.call('HSET', base .. 'reservation:' .. lesson, 'used_ms', digits(now))
  redis.call('ZADD', base .. 'reservations', digits(end_ms), lesson)
else
  redis.call('ZADD', base .. 'reservations', digits(new.lapse_ms), lesson)
  redis.call('ZADD', base .. 'due', digits(new.from_ms), lesson)
end
emit_freed(base, now, events_maxlen, 'reservation.made', lesson, '', 'start_ms', digits(start_ms),
  'end_ms', digits(end_ms))
return {'done', now, new.from_ms}
