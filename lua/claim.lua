-- claim: take the best free slot of a pool for a lesson, or say which lease the lesson already has.
-- include lease
-- key base: the pool's prefix, zp:{pool}:
-- arg lesson: lesson id, the idempotency key
-- arg owner: who asks
-- arg claim_ttl_ms: how long the claim lives if nobody records an intent to create
-- arg max_hold_ms: no lease of this grant lives longer
-- arg max_leases: how many leases one owner may hold
-- arg topic: title of the meeting to be made
-- arg duration_min: planned duration, minutes
-- arg batch: how many expired leases to clear first
-- arg outcome_ttl_ms: life of outcome records
-- arg events_maxlen: cap of the event stream
-- returns {'granted' | 'held', now_ms, deadline_ms, lease fields}: the lease, new or found
-- returns {'held_by_other', now_ms}: another owner holds this lesson
-- returns {'quota', now_ms}: the owner holds max_leases already
-- returns {'busy', now_ms, nearest deadline_ms or 0}: no slot is free
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
local batch = ARGV[8]
local outcome_ttl_ms = ARGV[9]
local events_maxlen = ARGV[10]

local now = clock()
expire(base, now, batch, outcome_ttl_ms, events_maxlen)

local held = redis.call('HGET', base .. 'lessons', lesson)
if held then
  local slot = split_lease(held)
  local fields = redis.call('HGETALL', base .. 'slot:' .. slot)
  local l = as_table(fields)
  if l.owner ~= owner then
    return {'held_by_other', now}
  end
  local deadline = tonumber(redis.call('ZSCORE', base .. 'leased', slot) or '0')
  if l.phase ~= 'claimed' or deadline > now then
    return {'held', now, deadline, fields}
  end
  end_lease(base, slot, l, now, 'lapsed', '', outcome_ttl_ms, events_maxlen)
end

local owned = base .. 'owner:' .. owner
if redis.call('SCARD', owned) >= max_leases then
  return {'quota', now}
end

local popped = redis.call('ZPOPMIN', base .. 'free')
local slot = popped[1]
if not slot then
  if redis.call('EXISTS', base .. 'accounts') == 0 then
    return {'unknown_pool', now}
  end
  local first = redis.call('ZRANGE', base .. 'leased', 0, 0, 'WITHSCORES')
  return {'busy', now, tonumber(first[2] or '0')}
end

local fence = redis.call('INCR', base .. 'fence')
local lease = slot .. '@' .. string.format('%.0f', fence)
local deadline = now + math.min(claim_ttl_ms, max_hold_ms)
local account = redis.call('HMGET', base .. 'account:' .. account_of(slot), 'email', 'zoom_user_id', 'credential')
local fields = {
  'lease', lease, 'lesson', lesson, 'owner', owner, 'phase', 'claimed', 'granted_ms', string.format('%.0f', now),
  'since_ms', string.format('%.0f', now), 'hold_until_ms', string.format('%.0f', now + max_hold_ms),
  'topic', topic, 'duration_min', duration_min,
  'email', account[1] or '', 'zoom_user_id', account[2] or '', 'credential', account[3] or '',
}
redis.call('HSET', base .. 'slot:' .. slot, unpack(fields))
redis.call('ZADD', base .. 'leased', deadline, slot)
redis.call('HSET', base .. 'lessons', lesson, lease)
redis.call('SADD', owned, lease)
emit(base, events_maxlen, 'lease.claimed', lesson, lease, 'owner', owner)
return {'granted', now, deadline, fields}
