-- claim: take the best free slot of a pool for a lesson, or a place in the queue, or say which lease it already has.
-- include base
-- key base: the pool's prefix, zp:{pool}:
-- arg lesson: lesson id, the idempotency key
-- arg owner: who asks
-- arg claim_ttl_ms: how long the claim lives if nobody records an intent to create
-- arg max_hold_ms: no lease of this grant lives longer
-- arg max_leases: how many leases and tickets one owner may have
-- arg topic: title of the meeting to be made
-- arg duration_min: planned duration, minutes
-- arg wait_ms: how long the caller would wait from now; 0 for no new ticket
-- arg ticket_ttl_ms: a ticket lapses unless its lesson is claimed again within this time
-- arg head_start_ms: for a new ticket: it stands as if asked for that much earlier
-- arg queue_max: no new ticket while so many wait
-- arg batch: how many expired leases, tickets and reservations to clear first, if no slot can be had without that
-- arg outcome_ttl_ms: life of outcome records
-- arg events_maxlen: cap of the event stream
-- returns {'granted', now_ms, deadline_ms, lease, hold_until_ms, email, zoom_user_id, credential}: what is new of the lease
-- returns {'held', now_ms, deadline_ms, lease fields}: the lease that the lesson has
-- returns {'queued', now_ms, position, length, estimate_ms or -1, ticket fields}: the lesson's place in line, 1 is next
-- returns {'queue_full', now_ms, length, estimate_ms or -1}: too many wait already
-- returns {'held_by_other', now_ms}: another owner holds this lesson, or waits for it
-- returns {'quota', now_ms}: the owner has max_leases leases and tickets already
-- returns {'busy', now_ms, nearest deadline_ms or 0}: no slot is free for this lesson
-- returns {'unknown_pool', now_ms}: the pool has no account
-- error none
local base = KEYS[1]
local lesson = ARGV[1]
local owner = ARGV[2]
local claim_ttl_ms = tonumber(ARGV[3])
local max_hold_ms = tonumber(ARGV[4])
local max_leases = tonumber(ARGV[5])
local topic = ARGV[6]
local duration_min = ARGV[7]
local wait_ms = tonumber(ARGV[8])
local ticket_ttl_ms = tonumber(ARGV[9])
local head_start_ms = tonumber(ARGV[10])
local queue_max = tonumber(ARGV[11])
local batch = ARGV[12]
local outcome_ttl_ms = ARGV[13]
local events_maxlen = ARGV[14]

local now, fence = clock(base)

-- How many leases and tickets an owner has, by what the index says of him.
local function count(has)
  local n = 0
  for _ in string.gmatch(has or '', '%S+') do
    n = n + 1
  end
  return n
end

-- Give the free slot to the lesson; what its owner holds and the event are left to the caller. Returns the answer and
-- the lease.
local function grant(slot)
  local account = read('HMGET', base .. 'account:' .. account_of(slot), 'email', 'zoom_user_id', 'credential')
  if not account[1] then
    damaged(base .. 'account:' .. account_of(slot), 'has no email, but a slot in rotation')
  end
  read('XLEN', base .. 'events')

  redis.call('ZREM', base .. 'free', slot)
  local minted = digits(fence)
  local lease = slot .. '@' .. minted
  local deadline = now + math.min(claim_ttl_ms, max_hold_ms)
  local now_ms, hold_until_ms = digits(now), digits(now + max_hold_ms)
  local email, zoom_user_id, credential = account[1], account[2] or '', account[3] or ''
  redis.call('HSET', base .. 'slot:' .. slot, 'lease', lease, 'lesson', lesson, 'owner', owner, 'phase', 'claimed',
    'granted_ms', now_ms, 'since_ms', now_ms, 'hold_until_ms', hold_until_ms, 'topic', topic,
    'duration_min', duration_min, 'email', email, 'zoom_user_id', zoom_user_id, 'credential', credential)
  redis.call('ZADD', base .. 'leased', digits(deadline), slot)
  redis.call('HSET', base .. 'lessons', lesson, lease)
  redis.call('SET', base .. 'fence', minted)
  -- What the caller said himself he need not be told; answers of Lua are slow to write.
  return {'granted', now, deadline, lease, hold_until_ms, email, zoom_user_id, credential}, lease
end

-- The short way, which nearly all claims go. One look at three keys tells that nobody waits, that nothing is reserved
-- and that the best free slot is really empty. Leases that have expired are left to others: a slot is free without them.
if not read('HGET', base .. 'lessons', lesson) then
  local best = read('ZRANGE', base .. 'free', 0, 0)[1]
  local has = read('HGET', base .. 'owners', owner)
  if best and count(has) < max_leases
    and redis.call('EXISTS', base .. 'waiting', base .. 'due', base .. 'slot:' .. best) == 0 then
    read('ZCARD', base .. 'leased')
    local answer, lease = grant(best)
    add_to_owner(base, owner, has, lease)
    emit(base, events_maxlen, 'lease.claimed', lesson, lease, 'owner', owner)
    return answer
  end
end

-- The long way. What it needs stands here and not above, because the short way is faster for every function that it
-- does not make.
-- include lease
-- include queue
expire(base, now, batch, outcome_ttl_ms, events_maxlen)

-- A lease that the lesson has.
local held = read('HGET', base .. 'lessons', lesson)
if held then
  local slot = split_lease(held) or damaged(base .. 'lessons', 'holds something that is no lease id')
  local l, fields = whole_lease(base, slot)
  if l.lease ~= held then
    damaged(base .. 'lessons', 'names ' .. held .. ', which is over')
  end
  if l.owner ~= owner then
    return {'held_by_other', now}
  end
  local deadline = tonumber(read('ZSCORE', base .. 'leased', slot) or 0)
  if l.phase ~= 'claimed' or deadline > now then
    return {'held', now, deadline, fields}
  end
  check_pool(base)
  end_lease(base, slot, l, check_end(base, slot, l), now, 'lapsed', '', outcome_ttl_ms, events_maxlen)
end

-- A ticket that the lesson has.
drop_lapsed(base, now, batch, events_maxlen)
check_pool(base)
check_queue(base)
local ticket = ticket_of(base, lesson)
if ticket and tonumber(redis.call('ZSCORE', base .. 'patience', lesson) or 0) <= now then
  remove_ticket(base, lesson, ticket.owner)
  emit_freed(base, now, events_maxlen, 'ticket.lapsed', lesson, '', 'owner', ticket.owner)
  ticket = nil
end
if ticket and ticket.owner ~= owner then
  return {'held_by_other', now}
end
local has = redis.call('HGET', base .. 'owners', owner)
if count(has) - (ticket and 1 or 0) >= max_leases then
  return {'quota', now}
end

-- A slot is the lesson's if fewer stand in front of it than slots are free, and what is reserved for others is not free.
local reservation
local due_ms = tonumber(redis.call('ZSCORE', base .. 'due', lesson) or 'inf')
if due_ms < math.huge then
  reservation = reservation_of(base, lesson)
    or damaged(base .. 'reservation:' .. lesson, 'is missing, but in the list of those to come')
end
local reserved = due_ms <= now
local tick = fence
if ticket then
  tick = tonumber(ticket.tick)
  head_start_ms = math.max(wait_ms > 0 and head_start_ms or 0, tonumber(ticket.head_start_ms))
end
local place = digits(tick - (head_start_ms + (reserved and RESERVED_HEAD_START_MS or 0)) * 1000)
if ticket then
  -- Reckoned anew each time: the reservation may have fallen due since.
  redis.call('ZADD', base .. 'waiting', place, lesson)
end
local rank = redis.call('ZCOUNT', base .. 'waiting', '-inf', '(' .. place)
local room = redis.call('ZCARD', base .. 'free')
if not reserved then
  room = room - redis.call('ZCOUNT', base .. 'due', '-inf', digits(now))
end

if rank < room then
  local best = redis.call('ZRANGE', base .. 'free', 0, 0)[1]
  if redis.call('EXISTS', base .. 'slot:' .. best) == 1 then
    damaged(base .. 'slot:' .. best, 'exists, but the slot is free')
  end
  local answer, lease = grant(best)
  if ticket then
    remove_ticket(base, lesson, owner)
    keep_pace(base, now)
  end
  add_to_owner(base, owner, redis.call('HGET', base .. 'owners', owner), lease)
  if reservation then
    redis.call('ZREM', base .. 'due', lesson)
    redis.call('ZADD', base .. 'reservations', reservation.end_ms, lesson)
    redis.call('HSET', base .. 'reservation:' .. lesson, 'used_ms', digits(now))
  end
  emit_freed(base, now, events_maxlen, 'lease.claimed', lesson, lease, 'owner', owner)
  return answer
end

-- No slot: a place in line.
local key = base .. 'ticket:' .. lesson
local length = redis.call('ZCARD', base .. 'waiting')
if redis.call('EXISTS', base .. 'accounts') == 0 then
  return {'unknown_pool', now}
end
if not ticket then
  tell_exhausted(base, events_maxlen)
  if wait_ms == 0 then
    local first = redis.call('ZRANGE', base .. 'leased', 0, 0, 'WITHSCORES')
    return {'busy', now, tonumber(first[2] or 0)}
  end
  if length >= queue_max then
    return {'queue_full', now, length, estimate(base, now, length)}
  end
  if redis.call('EXISTS', key) == 1 then
    damaged(key, 'exists, but its lesson does not wait')
  end
  if length == 0 then
    begin_pace(base, now)
  end
  redis.call('HSET', key, 'lesson', lesson, 'owner', owner, 'tick', digits(tick),
    'head_start_ms', digits(head_start_ms), 'asked_ms', digits(now), 'until_ms', digits(now + wait_ms))
  redis.call('ZADD', base .. 'waiting', place, lesson)
  redis.call('ZADD', base .. 'patience', digits(now + math.min(wait_ms, ticket_ttl_ms)), lesson)
  redis.call('SET', base .. 'fence', digits(tick))
  add_to_owner(base, owner, has, lesson)
  length = length + 1
  emit(base, events_maxlen, 'ticket.queued', lesson, '', 'owner', owner)
elseif wait_ms > 0 then
  local until_ms = math.max(tonumber(ticket.until_ms), now + wait_ms)
  redis.call('HSET', key, 'until_ms', digits(until_ms), 'head_start_ms', digits(head_start_ms))
  redis.call('ZADD', base .. 'patience', digits(math.min(until_ms, now + ticket_ttl_ms)), lesson)
end
local position = redis.call('ZRANK', base .. 'waiting', lesson) + 1
return {'queued', now, position, length, estimate(base, now, position), redis.call('HGETALL', key)}
