-- Shared by the scripts that say "include lease" in their header; the loader puts this text in front of theirs.
-- Local functions only: a global would poison every later script of the server.

local function clock()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

local function as_table(flat)
  local fields = {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end

-- "account#index@fence" -> slot, account
local function split_lease(id)
  return string.match(id, '^((.+)#%d+)@%d+$')
end

local function account_of(slot)
  return string.match(slot, '^(.+)#%d+$')
end

local function emit(base, maxlen, type, lesson, lease, ...)
  redis.call('XADD', base .. 'events', 'MAXLEN', '~', maxlen, '*',
    'type', type, 'lesson', lesson, 'lease', lease, ...)
end

-- Put every empty slot of an account where it belongs: in rotation, parked, or out of existence. Occupied slots stay.
-- The free ones carry the loads L, L+1, ... of an account that now holds L leases, so that granting the lowest leaves
-- the others right. `emptied` is the slot that the caller has just emptied, if any: it allows the short way for
-- accounts of one slot. A slot below a lowered capacity waits, parked, while slots above it still run at Zoom.
local function shelve(base, account, now, emptied)
  local key = base .. 'account:' .. account
  local a = redis.call('HMGET', key, 'slots', 'capacity', 'state', 'until_ms')
  if not a[1] then
    return
  end
  local slots, capacity, state = tonumber(a[1]), tonumber(a[2]), a[3]
  local until_ms = tonumber(a[4] or '0')
  if emptied and slots == 1 and capacity == 1 and state == 'active' then
    redis.call('ZADD', base .. 'free', now, emptied)
    return
  end

  local names = {}
  for i = 1, slots do
    names[i] = account .. '#' .. (i - 1)
  end
  local leased = redis.call('ZMSCORE', base .. 'leased', unpack(names))
  local suspect = redis.call('ZMSCORE', base .. 'suspect', unpack(names))
  local load, top = 0, 0
  for i = 1, slots do
    if leased[i] or suspect[i] then
      load = load + 1
      top = i
    end
  end
  if state == 'removing' and load == 0 then
    redis.call('ZREM', base .. 'free', unpack(names))
    redis.call('ZREM', base .. 'parked', unpack(names))
    redis.call('DEL', key)
    redis.call('SREM', base .. 'accounts', account)
    return
  end

  for i = 1, slots do
    if not leased[i] and not suspect[i] then
      local slot = names[i]
      if i > capacity then
        redis.call('ZREM', base .. 'free', slot)
        redis.call('ZREM', base .. 'parked', slot)
      elseif state == 'active' and load < capacity then
        redis.call('ZREM', base .. 'parked', slot)
        redis.call('ZADD', base .. 'free', load * 1e14 + now, slot)
        load = load + 1
      else
        redis.call('ZREM', base .. 'free', slot)
        redis.call('ZADD', base .. 'parked', (state ~= 'active' and until_ms > 0) and until_ms or '+inf', slot)
      end
    end
  end
  redis.call('HSET', key, 'slots', math.max(capacity, top))
end

-- End the lease `l` (its hash as a table) on `slot` for good, remember how, and give the slot back.
local function end_lease(base, slot, l, now, reason, detail, outcome_ttl_ms, maxlen)
  redis.call('ZREM', base .. (l.phase == 'suspect' and 'suspect' or 'leased'), slot)
  redis.call('DEL', base .. 'slot:' .. slot)
  redis.call('HDEL', base .. 'lessons', l.lesson)
  redis.call('SREM', base .. 'owner:' .. l.owner, l.lease)
  if l.meeting_id then
    redis.call('HDEL', base .. 'meetings', l.meeting_id)
  end
  local outcome = base .. 'outcome:' .. l.lesson
  redis.call('DEL', outcome)
  redis.call('HSET', outcome, 'lease', l.lease, 'lesson', l.lesson, 'owner', l.owner, 'reason', reason,
    'detail', detail, 'phase', l.phase, 'granted_ms', l.granted_ms, 'released_ms', now, 'meeting_id', l.meeting_id or '')
  redis.call('PEXPIRE', outcome, outcome_ttl_ms)
  shelve(base, account_of(slot), now, slot)
  emit(base, maxlen, 'lease.released', l.lesson, l.lease, 'owner', l.owner, 'reason', reason, 'detail', detail,
    'phase', l.phase, 'meeting_id', l.meeting_id or '')
end

-- Leases whose deadline has passed, at most `batch` of them: one that never reached Zoom is over; any other may have a
-- meeting, so its slot waits as suspect until Zoom has been asked.
local function expire(base, now, batch, outcome_ttl_ms, maxlen)
  local lapsed, suspected = {}, {}
  local slots = redis.call('ZRANGEBYSCORE', base .. 'leased', '-inf', now, 'LIMIT', 0, batch)
  for _, slot in ipairs(slots) do
    local l = as_table(redis.call('HGETALL', base .. 'slot:' .. slot))
    if l.phase == 'claimed' then
      end_lease(base, slot, l, now, 'lapsed', '', outcome_ttl_ms, maxlen)
      lapsed[#lapsed + 1] = l.lease
    else
      redis.call('ZREM', base .. 'leased', slot)
      redis.call('ZADD', base .. 'suspect', now, slot)
      redis.call('HSET', base .. 'slot:' .. slot, 'phase', 'suspect', 'was', l.phase, 'since_ms', now)
      emit(base, maxlen, 'lease.suspect', l.lesson, l.lease, 'was', l.phase, 'meeting_id', l.meeting_id or '')
      suspected[#suspected + 1] = l.lease
    end
  end
  return lapsed, suspected, #slots
end
