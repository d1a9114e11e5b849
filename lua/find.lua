-- find: what is known of a lesson, a Zoom meeting or a lease: the lease that runs, or how the last one ended.
-- include base
-- include lease
-- include queue
-- key base: the pool's prefix, zp:{pool}:
-- arg kind: lesson, meeting or lease
-- arg id: its id
-- returns {now_ms, deadline_ms or 0, lease fields, outcome, place}: what is known; an outcome is a line of words, a place as in claim
-- error UNKNOWN_KIND: kind is none of the above
local base = KEYS[1]
local kind = ARGV[1]
local id = ARGV[2]

local now = clock(base)
local lease
if kind == 'lesson' then
  lease = read('HGET', base .. 'lessons', id)
elseif kind == 'meeting' then
  lease = read('HGET', base .. 'meetings', id)
elseif kind == 'lease' then
  lease = id
else
  return redis.error_reply('UNKNOWN_KIND ' .. kind)
end
local slot = lease and split_lease(lease)
if slot and read('HGET', base .. 'slot:' .. slot, 'lease') == lease then
  local _, fields = whole_lease(base, slot)
  return {now, tonumber(read('ZSCORE', base .. 'leased', slot) or 0), fields, '', {}}
end
if kind ~= 'lesson' then
  return {now, 0, {}, '', {}}
end
local place = {}
local rank = read('ZRANK', base .. 'waiting', id)
if rank and tonumber(read('ZSCORE', base .. 'patience', id) or 0) > now and ticket_of(base, id) then
  place = {rank + 1, redis.call('ZCARD', base .. 'waiting'), estimate(base, now, rank + 1),
    redis.call('HGETALL', base .. 'ticket:' .. id)}
end
return {now, 0, {}, read('GET', base .. 'outcome:' .. id) or '', place}
