-- unreserve: give up a lesson's reservation, used or not.
-- include base
-- include lease
-- include queue
-- key base: the pool's prefix, zp:{pool}:
-- arg lesson: lesson id
-- arg events_maxlen: cap of the event stream
-- returns {'done', now_ms}: given up
-- returns {'stale', now_ms}: the lesson has none
-- error none
local base = KEYS[1]
local lesson = ARGV[1]
local events_maxlen = ARGV[2]

local now = clock(base)
check_pool(base)
check_queue(base)
local r = reservation_of(base, lesson)
if not r then
  return {'stale', now}
end
remove_reservation(base, lesson, r)
emit_freed(base, now, events_maxlen, 'reservation.cancelled', lesson, '', 'start_ms', r.start_ms)
return {'done', now}
