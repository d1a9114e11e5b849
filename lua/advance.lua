-- advance: move a lease to its next phase, or record facts about it, if its fence is still the slot's.
-- include base
-- include lease
-- key base: the pool's prefix, zp:{pool}:
-- arg lease: lease id
-- arg phase: creating, ready or live; empty to record fields without a change of phase or deadline
-- arg ttl_ms: life of the new phase, cut at the lease's max_hold
-- arg attempt: for creating: who tries
-- arg attempt_ttl_ms: for creating: how long nobody else may try
-- arg at_ms: for live: Zoom's time of the start, 0 if unknown; an older one than known is refused
-- arg events_maxlen: cap of the event stream
-- arg fields...: pairs of field and value to record; meeting_id also enters the meetings index
-- returns {'done', now_ms, deadline_ms, phase before}: changed, or already so
-- returns {'stale', now_ms}: the lease is over
-- returns {'refused', now_ms, deadline_ms or 0, why}: not from this phase
-- returns {'busy', now_ms, attempt_until_ms}: another attempt is under way
-- returns {'conflict', now_ms, 0, meeting id}: the lease has another meeting
-- error UNKNOWN_PHASE: phase is none of the above
local base = KEYS[1]
local lease = ARGV[1]
local phase = ARGV[2]
local ttl_ms = tonumber(ARGV[3])
local attempt = ARGV[4]
local attempt_ttl_ms = tonumber(ARGV[5])
local at_ms = tonumber(ARGV[6])
local events_maxlen = ARGV[7]
local first_field = 8

local from = {
  creating = {claimed = true, creating = true},
  ready = {creating = true, ready = true},
  live = {creating = true, ready = true, live = true, suspect = true},
  [''] = {claimed = true, creating = true, ready = true, live = true, suspect = true},
}
if not from[phase] then
  return redis.error_reply('UNKNOWN_PHASE ' .. phase)
end

local PAST_MEETING_MS = 3 * 24 * 3600 * 1000
-- Texts that only whoever enters the meeting needs lie beside the lease: without them it is small, which makes whatever
-- reads or removes it two times as fast (broker/decisions/0019).
local LINKS = {join_url = true, passcode = true, start_url = true, start_url_ms = true}

local now = clock(base)
local slot = split_lease(lease)
local key = base .. 'slot:' .. slot
local l = as_table(read('HGETALL', key))
if l.lease ~= lease then
  return {'stale', now}
end
check_lease(key, slot, l)
local deadline = tonumber(read('ZSCORE', base .. 'leased', slot) or 0)
local given, links = {}, {}
for i = first_field, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  if LINKS[field] then
    links[#links + 1] = field
    links[#links + 1] = value
  else
    given[field] = value
  end
end
if given.meeting_id and l.meeting_id and given.meeting_id ~= l.meeting_id then
  return {'conflict', now, 0, l.meeting_id}
end
if phase == 'ready' and l.phase == 'live' then
  return {'done', now, deadline, l.phase}
end
if not from[phase][l.phase] then
  return {'refused', now, deadline, l.phase}
end
if l.phase == 'claimed' and deadline <= now then
  return {'refused', now, deadline, 'lapsed'}
end
if phase == 'creating' then
  if deadline <= now then
    return {'refused', now, deadline, 'expired'}
  end
  local attempt_until = tonumber(l.attempt_until_ms or '0')
  if l.phase == 'creating' and l.attempt ~= attempt and attempt_until > now then
    return {'busy', now, attempt_until}
  end
  given.attempt = attempt
  given.attempt_until_ms = digits(now + attempt_ttl_ms)
elseif phase == 'live' then
  if not (given.meeting_id or l.meeting_id) then
    return {'refused', now, deadline, 'no meeting'}
  end
  local known_ms = tonumber(l.instance_ms or '0')
  if at_ms > 0 and at_ms < known_ms and given.meeting_uuid ~= l.meeting_uuid then
    return {'refused', now, deadline, 'older instance'}
  end
  if at_ms > known_ms then
    given.instance_ms = digits(at_ms)
  end
end
if l.phase == 'suspect' then
  read('ZCARD', base .. 'suspect')
end
if given.meeting_id then
  read('HLEN', base .. 'meetings')
end
if #links > 0 then
  read('HLEN', base .. 'links:' .. slot)
end
read('XLEN', base .. 'events')
if phase == 'live' then
  redis.call('HDEL', key, 'looks', 'was')
end

local same = phase == '' or (phase == l.phase and phase ~= 'creating')
if phase ~= '' then
  -- A second attempt spends what is left of the first one's time: retries never stretch a creation.
  local latest = (l.phase == 'creating' and phase == 'creating') and deadline or tonumber(l.hold_until_ms)
  deadline = math.min(now + ttl_ms, latest)
  given.phase = phase
  if phase ~= l.phase then
    given.since_ms = digits(now)
  end
  if l.phase == 'suspect' then
    redis.call('ZREM', base .. 'suspect', slot)
  end
  redis.call('ZADD', base .. 'leased', digits(deadline), slot)
end
local flat = {}
for field, value in pairs(given) do
  flat[#flat + 1] = field
  flat[#flat + 1] = value
end
if #flat > 0 then
  redis.call('HSET', key, unpack(flat))
end
if #links > 0 then
  redis.call('HSET', base .. 'links:' .. slot, unpack(links))
end
if given.meeting_id and not l.meeting_id then
  redis.call('HSET', base .. 'meetings', given.meeting_id, lease)
  -- A recording comes when the lease is long over.
  local past = base .. 'past:' .. given.meeting_id
  redis.call('HSET', past, 'lesson', l.lesson, 'owner', l.owner)
  redis.call('PEXPIRE', past, PAST_MEETING_MS)
end
if not same or #links > 0 then
  emit(base, events_maxlen, 'lease.' .. (same and 'refreshed' or phase), l.lesson, lease, 'owner', l.owner,
    'meeting_id', given.meeting_id or l.meeting_id or '')
end
return {'done', now, deadline, l.phase}
