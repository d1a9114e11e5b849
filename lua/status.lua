-- status: the counts of a pool, for machines. Everything is counted now, nothing is kept in a counter.
-- key base: the pool's prefix, zp:{pool}:
-- arg phases_of: count the phases of at most this many leases
-- returns {now_ms, accounts, free, leased, suspect, parked, lessons, fence, events, nearest deadline_ms or 0, phases}: counts
-- error none
local base = KEYS[1]
local phases_of = tonumber(ARGV[1])

local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local count = {}
for _, slot in ipairs(redis.call('ZRANGE', base .. 'leased', 0, phases_of - 1)) do
  local phase = redis.call('HGET', base .. 'slot:' .. slot, 'phase') or 'missing'
  count[phase] = (count[phase] or 0) + 1
end
local phases = {}
for phase, n in pairs(count) do
  phases[#phases + 1] = phase
  phases[#phases + 1] = n
end
local first = redis.call('ZRANGE', base .. 'leased', 0, 0, 'WITHSCORES')
return {
  now,
  redis.call('SCARD', base .. 'accounts'),
  redis.call('ZCARD', base .. 'free'),
  redis.call('ZCARD', base .. 'leased'),
  redis.call('ZCARD', base .. 'suspect'),
  redis.call('ZCARD', base .. 'parked'),
  redis.call('HLEN', base .. 'lessons'),
  tonumber(redis.call('GET', base .. 'fence') or '0'),
  redis.call('XLEN', base .. 'events'),
  tonumber(first[2] or '0'),
  phases,
}
