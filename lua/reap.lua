-- reap: act on passed deadlines, a bounded number at a time, and name the leases whose job was lost.
-- include base
-- include lease
-- include queue
-- key base: the pool's prefix, zp:{pool}:
-- arg batch: how many leases, accounts, tickets and reservations of each kind to look at
-- arg claim_stall_ms: a claim older than this, still without an intent to create, has lost its job
-- arg horizon_ms: how far ahead deadlines of claimed and creating leases can lie
-- arg outcome_ttl_ms: life of outcome records
-- arg events_maxlen: cap of the event stream
-- returns {lapsed leases, suspected leases, stalled leases, unparked accounts, 1 if more is due}: what was done
-- error none
local base = KEYS[1]
local batch = tonumber(ARGV[1])
local claim_stall_ms = tonumber(ARGV[2])
local horizon_ms = tonumber(ARGV[3])
local outcome_ttl_ms = ARGV[4]
local events_maxlen = ARGV[5]

local now, fence = clock(base)
local lapsed, suspected, seen = expire(base, now, batch, outcome_ttl_ms, events_maxlen)

local dropped = drop_lapsed(base, now, batch, events_maxlen)
-- A quiet pool mints no fences, so the largest time seen is recorded here.
redis.call('SET', base .. 'fence', digits(fence))

local stalled = {}
local young = read('ZRANGEBYSCORE', base .. 'leased', '(' .. digits(now), digits(now + horizon_ms), 'LIMIT', 0, batch)
for _, slot in ipairs(young) do
  local l = read('HMGET', base .. 'slot:' .. slot, 'lease', 'phase', 'since_ms', 'attempt_until_ms')
  if (l[2] == 'claimed' and tonumber(l[3] or '') + claim_stall_ms <= now)
    or (l[2] == 'creating' and tonumber(l[4] or '') <= now) then
    stalled[#stalled + 1] = l[1]
  end
end

local unparked, done = {}, {}
local due = read('ZRANGEBYSCORE', base .. 'parked', '-inf', digits(now), 'LIMIT', 0, batch)
if #due > 0 then
  check_pool(base)
end
for _, slot in ipairs(due) do
  local account = account_of(slot)
  if not done[account] then
    done[account] = true
    redis.call('HSET', base .. 'account:' .. account, 'state', 'active', 'reason', '', 'until_ms', 0)
    shelve(base, account, now)
    emit_freed(base, now, events_maxlen, 'account.unparked', '', '', 'account', account, 'reason', 'its time was up')
    unparked[#unparked + 1] = account
  end
end
return {lapsed, suspected, stalled, unparked, (seen == batch or #due == batch or dropped == batch) and 1 or 0}
