-- cancel: give up a lesson's place in the queue.
-- include base
-- include lease
-- include queue
-- key base: the pool's prefix, zp:{pool}:
-- arg lesson: lesson id
-- arg owner: whose ticket it must be
-- arg events_maxlen: cap of the event stream
-- returns {'done', now_ms}: the lesson waits no more
-- returns {'stale', now_ms}: it does not wait; it may have got its lease just before
-- returns {'refused', now_ms, 0, why}: it is another owner who waits
-- error none
local base = KEYS[1]
local lesson = ARGV[1]
local owner = ARGV[2]
local events_maxlen = ARGV[3]

local now = clock(base)
check_pool(base)
check_queue(base)
local ticket = ticket_of(base, lesson)
if not ticket then
  return {'stale', now}
end
if ticket.owner ~= owner then
  return {'refused', now, 0, 'another owner'}
end
remove_ticket(base, lesson, owner)
emit_freed(base, now, events_maxlen, 'ticket.cancelled', lesson, '', 'owner', owner)
return {'done', now}
