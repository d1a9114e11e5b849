-- renew: push back the deadline of a live lease after a sign of life.
-- include base
-- key base: the pool's prefix, zp:{pool}:
-- arg lease: lease id
-- arg ttl_ms: life from now, cut at the lease's max_hold; a later deadline stays
-- returns {'done', now_ms, deadline_ms}: renewed
-- returns {'stale', now_ms}: the lease is over
-- returns {'refused', now_ms, deadline_ms or 0, phase}: not live, or expired already
-- error none
local base = KEYS[1]
local lease = ARGV[1]
local ttl_ms = tonumber(ARGV[2])

local now = clock(base)
local slot = split_lease(lease)
local key = base .. 'slot:' .. slot
local l = read('HMGET', key, 'lease', 'phase', 'hold_until_ms', 'looks')
if l[1] ~= lease then
  return {'stale', now}
end
local hold_until_ms = tonumber(l[3] or '') or damaged(key, 'has no readable hold_until_ms')
local deadline = tonumber(read('ZSCORE', base .. 'leased', slot) or 0)
if l[2] ~= 'live' or deadline <= now then
  return {'refused', now, deadline, l[2] == 'live' and 'expired' or l[2]}
end
local renewed = math.min(math.max(deadline, now + ttl_ms), hold_until_ms)
redis.call('ZADD', base .. 'leased', digits(renewed), slot)
if l[4] then
  redis.call('HDEL', key, 'looks')
end
return {'done', now, renewed}
