-- find: what is known of a lesson, a Zoom meeting or a lease: the lease that runs, or how the last one ended.
-- include lease
-- key base: the pool's prefix, zp:{pool}:
-- arg kind: lesson, meeting or lease
-- arg id: its id
-- returns {now_ms, deadline_ms or 0, lease fields or empty, outcome fields or empty}: what is known
-- error UNKNOWN_KIND: kind is none of the above
local base = KEYS[1]
local kind = ARGV[1]
local id = ARGV[2]

local now = clock()
local lease
if kind == 'lesson' then
  lease = redis.call('HGET', base .. 'lessons', id)
elseif kind == 'meeting' then
  lease = redis.call('HGET', base .. 'meetings', id)
elseif kind == 'lease' then
  lease = id
else
  return redis.error_reply('UNKNOWN_KIND ' .. kind)
end
if lease then
  local slot = split_lease(lease)
  local fields = redis.call('HGETALL', base .. 'slot:' .. slot)
  if as_table(fields).lease == lease then
    return {now, tonumber(redis.call('ZSCORE', base .. 'leased', slot) or '0'), fields, {}}
  end
end
if kind == 'lesson' then
  return {now, 0, {}, redis.call('HGETALL', base .. 'outcome:' .. id)}
end
return {now, 0, {}, {}}
