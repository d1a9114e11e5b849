-- move: give a lesson another host because its own failed it, and take that account out of rotation, in one step.
-- include base
-- include lease
-- key base: the pool's prefix, zp:{pool}:
-- arg lease: the lease on the host that failed; the caller knows that no meeting was made for it
-- arg lesson: its lesson
-- arg attempt: who tries to create the meeting
-- arg state: quarantined or limited: what the failed account becomes; an operator's word on it stays
-- arg reason: why, for people
-- arg until_ms: when the account returns by itself; 0 for not by itself
-- arg ttl_ms: life of the new claim, cut at the lesson's max_hold
-- arg most_moves: how often a lesson may move
-- arg events_maxlen: cap of the event stream
-- returns {'moved', now_ms, deadline_ms, lease fields}: the lesson's new lease; asked for again, the same
-- returns {'stale', now_ms}: the lease is over
-- returns {'refused', now_ms, why}: a meeting may exist, or somebody else tries; nothing was changed
-- returns {'busy', now_ms, nearest deadline_ms or 0}: no other host is free; 0: and none is in use that could be
-- returns {'exhausted', now_ms}: the lesson moved most_moves times; the account is out of rotation
-- error none
local base = KEYS[1]
local lease = ARGV[1]
local lesson = ARGV[2]
local attempt = ARGV[3]
local state = ARGV[4]
local reason = ARGV[5]
local until_ms = ARGV[6]
local ttl_ms = tonumber(ARGV[7])
local most_moves = tonumber(ARGV[8])
local events_maxlen = ARGV[9]

local now, fence = clock(base)
local old_slot = split_lease(lease)
if read('HGET', base .. 'slot:' .. old_slot, 'lease') ~= lease then
  -- Moved already, by this call's lost first try?
  local current = read('HGET', base .. 'lessons', lesson)
  if current then
    local slot = split_lease(current)
    local m, fields = whole_lease(base, slot)
    if m.moved_from == lease then
      return {'moved', now, tonumber(read('ZSCORE', base .. 'leased', slot) or 0), fields}
    end
  end
  return {'stale', now}
end
local l = whole_lease(base, old_slot)
local old_deadline = tonumber(read('ZSCORE', base .. 'leased', old_slot) or 0)
if l.lesson ~= lesson then
  return {'refused', now, 'the lease of another lesson'}
elseif l.phase ~= 'creating' or l.meeting_id then
  return {'refused', now, l.meeting_id and 'it has a meeting' or l.phase}
elseif l.attempt ~= attempt then
  return {'refused', now, 'another attempt'}
elseif old_deadline <= now then
  return {'refused', now, 'expired'}
elseif l.ending then
  return {'refused', now, 'ending'}
end

check_pool(base)
check_end(base, old_slot, l)
local account = account_of(old_slot)
local key = base .. 'account:' .. account
local before = redis.call('HMGET', key, 'state', 'reason', 'until_ms')
local automatic = {active = true, quarantined = true, limited = true}
local parks = automatic[before[1]] and (before[1] ~= state or before[2] ~= reason or before[3] ~= until_ms)
if parks then
  redis.call('HSET', key, 'state', state, 'reason', reason, 'until_ms', until_ms)
end
shelve(base, account, now)
local function tell_parked()
  if parks then
    emit(base, events_maxlen, 'account.parked', '', '', 'account', account, 'state', state, 'reason', reason)
  end
end

local moves = tonumber(l.moves or '0') + 1
if moves > most_moves then
  tell_parked()
  return {'exhausted', now}
end
local slot = redis.call('ZPOPMIN', base .. 'free')[1]
if not slot then
  -- Slots of accounts out of rotation come back to nobody. A score of them is enough of a look.
  local nearest = 0
  local running = redis.call('ZRANGE', base .. 'leased', 0, 19, 'WITHSCORES')
  for i = 1, #running, 2 do
    local host = base .. 'account:' .. account_of(running[i])
    if nearest == 0 and redis.call('HGET', host, 'state') == 'active' then
      nearest = tonumber(running[i + 1])
    end
  end
  tell_parked()
  return {'busy', now, nearest}
end

local minted = digits(fence)
local moved = slot .. '@' .. minted
local host = redis.call('HMGET', base .. 'account:' .. account_of(slot), 'email', 'zoom_user_id', 'credential')
l.lease, l.phase, l.moved_from, l.moves = moved, 'claimed', lease, moves
l.since_ms = digits(now)
l.email, l.zoom_user_id, l.credential = host[1] or '', host[2] or '', host[3] or ''
-- What was tried on the old host says nothing about the new one.
l.attempt, l.attempt_until_ms = nil, nil
local fields = {}
for field, value in pairs(l) do
  fields[#fields + 1] = field
  fields[#fields + 1] = tostring(value)
end
local deadline = math.min(now + ttl_ms, tonumber(l.hold_until_ms))

redis.call('ZREM', base .. 'leased', old_slot)
redis.call('DEL', base .. 'slot:' .. old_slot)
take_from_owner(base, l.owner, lease)
redis.call('HSET', base .. 'slot:' .. slot, unpack(fields))
redis.call('ZADD', base .. 'leased', digits(deadline), slot)
redis.call('HSET', base .. 'lessons', lesson, moved)
redis.call('SET', base .. 'fence', minted)
add_to_owner(base, l.owner, redis.call('HGET', base .. 'owners', l.owner), moved)
shelve(base, account, now)
tell_parked()
emit(base, events_maxlen, 'lease.moved', lesson, moved, 'owner', l.owner, 'from', lease, 'reason', reason)
return {'moved', now, deadline, fields}
