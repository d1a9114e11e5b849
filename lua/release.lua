-- release: end one lease or many, if their fences are still their slots'.
-- include base
-- include lease
-- key base: the pool's prefix, zp:{pool}:
-- arg reason: why, one of the release reasons
-- arg detail: error code or an operator's words, may be empty
-- arg only_phase: end it only in this phase; empty for any
-- arg only_uuid: end it only while this is its meeting's current uuid; empty for any
-- arg outcome_ttl_ms: life of outcome records
-- arg events_maxlen: cap of the event stream
-- arg leases...: lease ids, 100 at most
-- returns {now_ms, answer of each lease: 'done' | 'stale' | 'refused'}: in the order of the leases
-- error TOO_MANY: more than 100 leases
local base = KEYS[1]
local reason = ARGV[1]
local detail = ARGV[2]
local only_phase = ARGV[3]
local only_uuid = ARGV[4]
local outcome_ttl_ms = ARGV[5]
local events_maxlen = ARGV[6]
local first_lease = 7

if #ARGV - first_lease + 1 > 100 then
  return redis.error_reply('TOO_MANY release takes 100 leases at most')
end
local now = clock(base)
check_pool(base)
local answers, leases, accounts, seen = {now}, {}, {}, {}
for i = first_lease, #ARGV do
  local id = ARGV[i]
  local slot = split_lease(id)
  local l = slot and not seen[id] and lease_on(base, slot, id)
  if not l then
    answers[#answers + 1] = 'stale'
  elseif (only_phase ~= '' and l.phase ~= only_phase) or (only_uuid ~= '' and l.meeting_uuid ~= only_uuid) then
    answers[#answers + 1] = 'refused'
  else
    accounts[#accounts + 1] = check_end(base, slot, l)
    leases[#leases + 1] = l
    seen[id] = true
    answers[#answers + 1] = 'done'
  end
end
for i, l in ipairs(leases) do
  local slot = split_lease(l.lease)
  end_lease(base, slot, l, accounts[i], now, reason, detail, outcome_ttl_ms, events_maxlen)
end
return answers
