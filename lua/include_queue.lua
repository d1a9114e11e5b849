-- Shared by the scripts that say "include queue" behind "include lease": tickets, that is who waits, and reservations.

-- Quarters of an hour since the epoch are what reservations are counted by.
local QUARTER_MS = 900000
-- Who has a reservation that is due waits in front of everybody who has none.
local RESERVED_HEAD_START_MS = 86400000
-- A pace that nobody has kept for so long says nothing about the next minutes.
local PACE_TTL_MS = 600000
local LONGEST_ESTIMATE_MS = 6 * 3600 * 1000
-- Between two events that say that the pool is exhausted.
local EXHAUSTED_MS = 60000

-- Tell that a lesson found no free slot, but not for each of a thousand.
local function tell_exhausted(base, maxlen)
  read('XLEN', base .. 'events')
  if redis.call('SET', base .. 'exhausted', '1', 'NX', 'PX', EXHAUSTED_MS) then
    emit(base, maxlen, 'pool.exhausted', '', '')
  end
end

-- The ticket of a lesson, or nothing.
local function ticket_of(base, lesson)
  local key = base .. 'ticket:' .. lesson
  local fields = read('HGETALL', key)
  if #fields == 0 then
    return nil
  end
  local t = as_table(fields)
  if not (t.owner and tonumber(t.tick) and tonumber(t.head_start_ms) and tonumber(t.asked_ms)
    and tonumber(t.until_ms)) then
    damaged(key, 'has no readable owner, tick, head_start_ms, asked_ms or until_ms')
  end
  return t
end

local function remove_ticket(base, lesson, owner)
  redis.call('ZREM', base .. 'waiting', lesson)
  redis.call('ZREM', base .. 'patience', lesson)
  redis.call('DEL', base .. 'ticket:' .. lesson)
  take_from_owner(base, owner, lesson)
end

-- The types of all that a change of tickets or reservations writes.
local function check_queue(base)
  read('ZCARD', base .. 'waiting')
  read('ZCARD', base .. 'patience')
  read('HLEN', base .. 'pace')
  read('ZCARD', base .. 'due')
  read('ZCARD', base .. 'reservations')
  read('HLEN', base .. 'booked')
end

-- How long the ticket at `position` (1 is next) will wait at the pace of late; -1 if there is none to go by. A queue
-- that has not moved for longer than its pace is slower than its pace.
local function estimate(base, now, position)
  local pace = read('HMGET', base .. 'pace', 'at_ms', 'gap_ms')
  local at_ms, gap_ms = tonumber(pace[1] or ''), tonumber(pace[2] or '')
  if not at_ms or not gap_ms or at_ms + PACE_TTL_MS < now then
    return -1
  end
  local wait_ms = math.ceil(position * math.max(gap_ms, now - at_ms))
  return wait_ms <= LONGEST_ESTIMATE_MS and wait_ms or -1
end

-- Somebody who waited was served: the mean time between two such moments, the newest weighing a fifth.
local function keep_pace(base, now)
  local pace = redis.call('HMGET', base .. 'pace', 'at_ms', 'gap_ms')
  local at_ms, gap_ms = tonumber(pace[1] or ''), tonumber(pace[2] or '')
  if at_ms then
    local gap = now - at_ms
    redis.call('HSET', base .. 'pace', 'gap_ms', digits(gap_ms and gap_ms + (gap - gap_ms) / 5 or gap))
  end
  redis.call('HSET', base .. 'pace', 'at_ms', digits(now))
end

-- A queue begins: the time until its first is served counts from now, what was long ago does not.
local function begin_pace(base, now)
  local at_ms = tonumber(redis.call('HGET', base .. 'pace', 'at_ms') or '')
  if not at_ms or at_ms + PACE_TTL_MS < now then
    redis.call('DEL', base .. 'pace')
  end
  redis.call('HSET', base .. 'pace', 'at_ms', digits(now))
end

-- The reservation of a lesson, or nothing.
local function reservation_of(base, lesson)
  local key = base .. 'reservation:' .. lesson
  local fields = read('HGETALL', key)
  if #fields == 0 then
    return nil
  end
  local r = as_table(fields)
  if not (tonumber(r.start_ms) and tonumber(r.end_ms) and tonumber(r.from_ms) and tonumber(r.lapse_ms)) then
    damaged(key, 'has no readable start_ms, end_ms, from_ms or lapse_ms')
  end
  return r
end

-- The first and the last quarter that a reservation takes a slot of.
local function quarters(r)
  return math.floor(r.from_ms / QUARTER_MS), math.floor((r.end_ms - 1) / QUARTER_MS)
end

local function remove_reservation(base, lesson, r)
  local first, last = quarters(r)
  for quarter = first, last do
    if redis.call('HINCRBY', base .. 'booked', digits(quarter), -1) <= 0 then
      redis.call('HDEL', base .. 'booked', digits(quarter))
    end
  end
  redis.call('DEL', base .. 'reservation:' .. lesson)
  redis.call('ZREM', base .. 'due', lesson)
  redis.call('ZREM', base .. 'reservations', lesson)
end

-- Take away, at most `batch` of each, the tickets of those who were not heard of in time or whose deadline has passed,
-- the reservations that nobody used in time and those that are over. Returns the larger number of the two.
local function drop_lapsed(base, now, batch, maxlen)
  local late = read('ZRANGEBYSCORE', base .. 'patience', '-inf', digits(now), 'LIMIT', 0, batch)
  local over = read('ZRANGEBYSCORE', base .. 'reservations', '-inf', digits(now), 'LIMIT', 0, batch)
  if #late == 0 and #over == 0 then
    return 0
  end
  check_pool(base)
  check_queue(base)
  local tickets, reservations = {}, {}
  for i, lesson in ipairs(late) do
    tickets[i] = ticket_of(base, lesson) or damaged(base .. 'ticket:' .. lesson, 'is missing, but its lesson waits')
  end
  for i, lesson in ipairs(over) do
    reservations[i] = reservation_of(base, lesson)
      or damaged(base .. 'reservation:' .. lesson, 'is missing, but in the list of reservations')
  end
  for i, lesson in ipairs(over) do
    remove_reservation(base, lesson, reservations[i])
    if not reservations[i].used_ms then
      emit_freed(base, now, maxlen, 'reservation.lapsed', lesson, '', 'start_ms', reservations[i].start_ms)
    end
  end
  for i, lesson in ipairs(late) do
    remove_ticket(base, lesson, tickets[i].owner)
    emit_freed(base, now, maxlen, 'ticket.lapsed', lesson, '', 'owner', tickets[i].owner)
  end
  return math.max(#late, #over)
end
