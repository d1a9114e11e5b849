-- Shared by the scripts that say "include lease" behind "include base": leases and the slots under them.

local function as_table(flat)
  local fields = {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end

-- What a lease cannot be without.
local ESSENTIAL = {'lease', 'lesson', 'owner', 'phase', 'granted_ms', 'since_ms', 'hold_until_ms'}

-- Stop unless the record `l` is a whole lease on this slot.
local function check_lease(key, slot, l)
  for _, name in ipairs(ESSENTIAL) do
    if not l[name] then
      damaged(key, 'has no ' .. name)
    end
  end
  if not (tonumber(l.granted_ms) and tonumber(l.since_ms) and tonumber(l.hold_until_ms)) then
    damaged(key, 'has a time that is no number')
  end
  if split_lease(l.lease) ~= slot then
    damaged(key, 'holds a lease of another slot')
  end
end

-- The lease on an occupied slot, all of it: as a table, and as a flat list that has the links of its meeting, too.
local function whole_lease(base, slot)
  local key = base .. 'slot:' .. slot
  local fields = read('HGETALL', key)
  local l = as_table(fields)
  check_lease(key, slot, l)
  if l.meeting_id then
    for _, part in ipairs(read('HGETALL', base .. 'links:' .. slot)) do
      fields[#fields + 1] = part
    end
  end
  return l, fields
end

-- The lease on an occupied slot, as far as the end of a lease needs it; reading all of it costs twice as much. With an
-- id: that lease, or nothing if it is over.
local function lease_on(base, slot, id)
  local key = base .. 'slot:' .. slot
  local l = {}
  l.lease, l.lesson, l.owner, l.phase, l.granted_ms, l.since_ms, l.hold_until_ms, l.meeting_id, l.meeting_uuid =
    unpack(read('HMGET', key, 'lease', 'lesson', 'owner', 'phase', 'granted_ms', 'since_ms', 'hold_until_ms',
      'meeting_id', 'meeting_uuid'))
  if id and l.lease ~= id then
    return nil
  end
  check_lease(key, slot, l)
  return l
end

-- slots, capacity, state, until_ms of an account, or nothing. All that a change of its slots depends on.
local function account_record(base, account)
  local key = base .. 'account:' .. account
  local a = read('HMGET', key, 'slots', 'capacity', 'state', 'until_ms')
  if not a[1] and not a[2] and not a[3] then
    return nil
  end
  local slots, capacity, until_ms = tonumber(a[1] or ''), tonumber(a[2] or ''), tonumber(a[4] or '')
  if not (slots and capacity and a[3] and until_ms) then
    damaged(key, 'has no readable slots, capacity, state or until_ms')
  end
  return {slots = slots, capacity = capacity, state = a[3], until_ms = until_ms}
end

-- The names under which Zoom knows a host, as the index of hosts has them. Zoom takes e-mails in any letters, and in
-- the place of a user's id, too.
local function host_names(email, zoom_user_id)
  local names = {}
  for _, name in ipairs({email or '', zoom_user_id or ''}) do
    if name ~= '' then
      names[#names + 1] = string.find(name, '@', 1, true) and string.lower(name) or name
    end
  end
  return names
end

-- Take these names from an account; what the index says of other accounts stays.
local function forget_hosts(base, account, names)
  for _, name in ipairs(names) do
    if redis.call('HGET', base .. 'hosts', name) == account then
      redis.call('HDEL', base .. 'hosts', name)
    end
  end
end

-- The sets that any change of a slot writes, and the event stream, are what they should be.
local function check_pool(base)
  read('ZCARD', base .. 'free')
  read('ZCARD', base .. 'leased')
  read('ZCARD', base .. 'suspect')
  read('ZCARD', base .. 'parked')
  read('HLEN', base .. 'owners')
  read('XLEN', base .. 'events')
end

-- The lessons that wait and could be served now, first in line first, as text. At most 16: whoever of them is served
-- wakes the next.
local function next_in_line(base, now)
  if redis.call('EXISTS', base .. 'waiting') == 0 then
    return ''
  end
  local free = math.min(redis.call('ZCARD', base .. 'free'), 16)
  if free == 0 then
    return ''
  end
  local unreserved = free - redis.call('ZCOUNT', base .. 'due', '-inf', digits(now))
  local names = {}
  for i, lesson in ipairs(redis.call('ZRANGE', base .. 'waiting', 0, free - 1)) do
    if i <= unreserved or tonumber(redis.call('ZSCORE', base .. 'due', lesson) or 'inf') <= now then
      names[#names + 1] = lesson
    end
  end
  return table.concat(names, ' ')
end

-- An event after which a slot may be free, or somebody further ahead in the queue: it names whom to wake.
local function emit_freed(base, now, maxlen, type, lesson, lease, ...)
  local lessons = next_in_line(base, now)
  if lessons == '' then
    return emit(base, maxlen, type, lesson, lease, ...)
  end
  return emit(base, maxlen, type, lesson, lease, 'wake', lessons, ...)
end

-- Forget that an owner holds this lease or waits for this lesson.
local function take_from_owner(base, owner, name)
  local held = redis.call('HGET', base .. 'owners', owner)
  if held == name then
    redis.call('HDEL', base .. 'owners', owner)
  elseif held then
    local left = {}
    for word in string.gmatch(held, '%S+') do
      if word ~= name then
        left[#left + 1] = word
      end
    end
    redis.call('HSET', base .. 'owners', owner, table.concat(left, ' '))
  end
end

-- Put every empty slot of an account where it belongs: in rotation, parked, or out of existence. Occupied slots stay.
-- The free ones carry the loads L, L+1, ... of an account that now holds L leases, so that granting the lowest leaves
-- the others right. `emptied` is the slot that the caller has just emptied, if any: it allows the short way for
-- accounts of one slot. `known` is the account's record, if the caller has it. A slot below a lowered capacity waits,
-- parked, while slots above it still run at Zoom.
local function shelve(base, account, now, emptied, known)
  local a = known or account_record(base, account)
  if not a then
    return
  end
  local slots, capacity, state, until_ms = a.slots, a.capacity, a.state, a.until_ms
  if emptied and slots == 1 and capacity == 1 and state == 'active' then
    redis.call('ZADD', base .. 'free', digits(now), emptied)
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
  local key = base .. 'account:' .. account
  if state == 'removing' and load == 0 then
    forget_hosts(base, account, host_names(unpack(redis.call('HMGET', key, 'email', 'zoom_user_id'))))
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
        redis.call('ZADD', base .. 'free', digits(load * 1e14 + now), slot)
        load = load + 1
      else
        redis.call('ZREM', base .. 'free', slot)
        redis.call('ZADD', base .. 'parked', (state ~= 'active' and until_ms > 0) and digits(until_ms) or '+inf', slot)
      end
    end
  end
  redis.call('HSET', key, 'slots', math.max(capacity, top))
end

-- Everything that `end_lease` will rely on is there and agrees; called for all leases before the first one is ended.
-- Returns the record of the lease's account.
local function check_end(base, slot, l)
  if read('HGET', base .. 'lessons', l.lesson) ~= l.lease then
    damaged(base .. 'lessons', 'does not name ' .. l.lease .. ' for its lesson')
  end
  if l.meeting_id then
    read('HLEN', base .. 'meetings')
  end
  local account = account_record(base, account_of(slot))
    or damaged(base .. 'account:' .. account_of(slot), 'is missing, but has a lease')
  if account.state == 'removing' then
    read('HLEN', base .. 'hosts')
  end
  return account
end

-- End the lease `l` on `slot` for good, remember how, and give the slot back.
local function end_lease(base, slot, l, account, now, reason, detail, outcome_ttl_ms, maxlen)
  -- One line of words; the detail comes last because it may have spaces.
  local outcome = table.concat({l.lease, l.lesson, l.owner, reason, l.phase, l.granted_ms, digits(now),
    l.meeting_id or '-', detail}, ' ')
  redis.call('SET', base .. 'outcome:' .. l.lesson, outcome, 'PX', outcome_ttl_ms)
  redis.call('ZREM', base .. (l.phase == 'suspect' and 'suspect' or 'leased'), slot)
  redis.call('DEL', base .. 'slot:' .. slot, base .. 'links:' .. slot)
  redis.call('HDEL', base .. 'lessons', l.lesson)
  take_from_owner(base, l.owner, l.lease)
  if l.meeting_id then
    redis.call('HDEL', base .. 'meetings', l.meeting_id)
  end
  shelve(base, account_of(slot), now, slot, account)
  emit_freed(base, now, maxlen, 'lease.released', l.lesson, l.lease, 'owner', l.owner, 'reason', reason,
    'detail', detail, 'phase', l.phase, 'meeting_id', l.meeting_id or '')
end

-- Leases whose deadline has passed, at most `batch` of them: one that never reached Zoom is over; any other may have a
-- meeting, so its slot waits as suspect until Zoom has been asked.
local function expire(base, now, batch, outcome_ttl_ms, maxlen)
  local lapsed, suspected = {}, {}
  local slots = read('ZRANGEBYSCORE', base .. 'leased', '-inf', digits(now), 'LIMIT', 0, batch)
  if #slots == 0 then
    return lapsed, suspected, 0
  end
  check_pool(base)
  local leases, accounts = {}, {}
  for i, slot in ipairs(slots) do
    leases[i] = lease_on(base, slot)
    accounts[i] = check_end(base, slot, leases[i])
  end
  for i, slot in ipairs(slots) do
    local l = leases[i]
    if l.phase == 'claimed' then
      end_lease(base, slot, l, accounts[i], now, 'lapsed', '', outcome_ttl_ms, maxlen)
      lapsed[#lapsed + 1] = l.lease
    else
      redis.call('ZREM', base .. 'leased', slot)
      redis.call('ZADD', base .. 'suspect', digits(now), slot)
      redis.call('HSET', base .. 'slot:' .. slot, 'phase', 'suspect', 'was', l.phase, 'since_ms', digits(now))
      emit(base, maxlen, 'lease.suspect', l.lesson, l.lease, 'was', l.phase, 'meeting_id', l.meeting_id or '')
      suspected[#suspected + 1] = l.lease
    end
  end
  return lapsed, suspected, #slots
end
