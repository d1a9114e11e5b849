-- status: the counts of a pool, for machines. Everything is counted now, nothing is kept in a counter.
-- key base: the pool's prefix, zp:{pool}:
-- arg phases_of: count the phases of at most this many leases
-- returns {now_ms, counts by name, nearest deadline_ms or 0, behind_ms, phases}: behind_ms as in broker/models.py
-- error none
local base = KEYS[1]
local phases_of = tonumber(ARGV[1])

local t = redis.call('TIME')
local fence = tonumber(redis.call('GET', base .. 'fence') or '0')
local time = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local now = math.max(time, math.floor(fence / 1000))
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
  {
    'accounts', redis.call('SCARD', base .. 'accounts'),
    'free', redis.call('ZCARD', base .. 'free'),
    'leased', redis.call('ZCARD', base .. 'leased'),
    'suspect', redis.call('ZCARD', base .. 'suspect'),
    'parked', redis.call('ZCARD', base .. 'parked'),
    'lessons', redis.call('HLEN', base .. 'lessons'),
    'fence', fence,
    'events', redis.call('XLEN', base .. 'events'),
    'waiting', redis.call('ZCARD', base .. 'waiting'),
    'due', redis.call('ZCOUNT', base .. 'due', '-inf', string.format('%.0f', now)),
    'reservations', redis.call('ZCARD', base .. 'reservations'),
  },
  tonumber(first[2] or '0'),
  now - time,
  phases,
}
