-- set_account: add, resize, park, unpark or remove one account of a pool. Running leases are never touched.
-- include base
-- include lease
-- key base: the pool's prefix, zp:{pool}:
-- arg action: add, resize, park, unpark or remove
-- arg account: account id
-- arg email: for add: the host's e-mail
-- arg zoom_user_id: for add: the host's user id at Zoom, may be empty
-- arg credential: for add: name of the credential
-- arg capacity: for add and resize: meetings at a time
-- arg state: for park: draining, disabled, quarantined or limited
-- arg reason: for park: why, for people
-- arg until_ms: for park: when it returns by itself; 0 for never
-- arg events_maxlen: cap of the event stream
-- returns {'done', now_ms, leases still on the account}: made so, or already so
-- returns {'stale', now_ms}: no such account
-- returns {'conflict', now_ms, account}: for add: that other account has this Zoom user; nothing was changed
-- error UNKNOWN_ACTION: action is none of the above
local base = KEYS[1]
local action = ARGV[1]
local account = ARGV[2]
local email = ARGV[3]
local zoom_user_id = ARGV[4]
local credential = ARGV[5]
local capacity = ARGV[6]
local state = ARGV[7]
local reason = ARGV[8]
local until_ms = ARGV[9]
local events_maxlen = ARGV[10]

local now = clock(base)
check_pool(base)
read('SCARD', base .. 'accounts')
read('HLEN', base .. 'hosts')
local key = base .. 'account:' .. account
account_record(base, account)
local before = redis.call('HMGET', key, 'slots', 'capacity', 'state', 'reason', 'until_ms', 'email',
  'zoom_user_id')
local slots = tonumber(before[1] or '0')
local changed = true
if action ~= 'add' and slots == 0 then
  return {'stale', now}
end

if action == 'add' then
  local names = host_names(email, zoom_user_id)
  for _, name in ipairs(names) do
    local other = redis.call('HGET', base .. 'hosts', name)
    if other and other ~= account then
      if not account_record(base, other) then
        damaged(base .. 'hosts', 'names ' .. other .. ', which is no account')
      end
      return {'conflict', now, other}
    end
  end
  forget_hosts(base, account, host_names(before[6], before[7]))
  for _, name in ipairs(names) do
    redis.call('HSET', base .. 'hosts', name, account)
  end
  local keep = before[3] and before[3] ~= 'removing'
  redis.call('HSET', key, 'email', email, 'zoom_user_id', zoom_user_id, 'credential', credential,
    'capacity', capacity, 'slots', math.max(slots, tonumber(capacity)), 'state', keep and before[3] or 'active',
    'reason', keep and before[4] or '', 'until_ms', keep and before[5] or 0)
  redis.call('SADD', base .. 'accounts', account)
elseif action == 'resize' then
  changed = before[2] ~= capacity
  redis.call('HSET', key, 'capacity', capacity, 'slots', math.max(slots, tonumber(capacity)))
elseif action == 'park' and before[3] == 'removing' then
  -- It gets no lessons already, and trouble with a host that leaves must not make it stay.
  changed = false
elseif action == 'park' then
  changed = before[3] ~= state or before[4] ~= reason or before[5] ~= until_ms
  redis.call('HSET', key, 'state', state, 'reason', reason, 'until_ms', until_ms)
elseif action == 'unpark' then
  changed = before[3] ~= 'active'
  redis.call('HSET', key, 'state', 'active', 'reason', '', 'until_ms', 0)
elseif action == 'remove' then
  changed = before[3] ~= 'removing'
  redis.call('HSET', key, 'state', 'removing', 'reason', 'leaves when its last lease ends', 'until_ms', 0)
else
  return redis.error_reply('UNKNOWN_ACTION ' .. action)
end

local load = 0
for i = 0, math.max(slots, tonumber(capacity) or 0) - 1 do
  load = load + redis.call('EXISTS', base .. 'slot:' .. account .. '#' .. i)
end
shelve(base, account, now)
if changed then
  local past = {add = 'added', resize = 'resized', park = 'parked', unpark = 'unparked', remove = 'removed'}
  emit_freed(base, now, events_maxlen, 'account.' .. past[action], '', '', 'account', account,
    'state', action == 'park' and state or '', 'reason', reason)
end
return {'done', now, load}
