-- spend: take one call to Zoom from the budget of a Zoom account, now or at a moment that is kept for the caller.
-- key base: the budget, zp:zoom:{account}:category; a day's counts lie beside it
-- arg per_s: most calls in any window; 0 for no limit
-- arg places: how many of them this caller may fill; the rest is left to others
-- arg window_ms: the window, a second and what calls may be late on their way
-- arg per_day: most calls in a UTC day for this caller; 0 for no limit
-- arg host: whose creation this is; empty for any other call
-- arg host_per_day: most creations of a host in a UTC day; 0 for no limit
-- arg most_wait_ms: the caller's patience
-- arg used_up: empty; or day or host: Zoom said so, and only this is noted
-- returns {'granted', now_ms, wait_ms}: call after wait_ms; the moment is kept
-- returns {'later', now_ms, wait_ms}: longer than the caller's patience; nothing is kept
-- returns {'day', now_ms, wait_ms}: the day's calls are used up; wait_ms runs to 00:00 UTC
-- returns {'host_day', now_ms, wait_ms}: the host's creations are used up; wait_ms runs to 00:00 UTC
-- returns {'noted', now_ms, wait_ms}: what Zoom said is noted
-- error none
local base = KEYS[1]
local per_s = tonumber(ARGV[1])
local places = tonumber(ARGV[2])
local window_ms = tonumber(ARGV[3])
local per_day = tonumber(ARGV[4])
local host = ARGV[5]
local host_per_day = tonumber(ARGV[6])
local most_wait_ms = tonumber(ARGV[7])
local used_up = ARGV[8]

local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local day_ms = 24 * 3600 * 1000
local day = math.floor(now / day_ms)
local midnight_ms = (day + 1) * day_ms - now
local today = base .. ':' .. string.format('%.0f', day)
local of_host = 'host:' .. host

if used_up ~= '' then
  redis.call('HSET', today, used_up == 'day' and 'used_up' or of_host, used_up == 'day' and 1 or host_per_day)
  redis.call('PEXPIRE', today, midnight_ms + 3600 * 1000)
  return {'noted', now, midnight_ms}
end

local spent = redis.call('HMGET', today, 'calls', 'used_up', of_host)
if spent[2] or (per_day > 0 and tonumber(spent[1] or '0') >= per_day) then
  return {'day', now, midnight_ms}
end
if host ~= '' and host_per_day > 0 and tonumber(spent[3] or '0') >= host_per_day then
  return {'host_day', now, midnight_ms}
end

-- A ring of the moments of the last per_s calls, some of them in the future. The next one may be made when, counted
-- back from it, the places-th last one is a whole window old: then no window ever holds more.
local at = now
if per_s > 0 then
  local n = tonumber(redis.call('HGET', base, 'n') or '0')
  local last = n > 0 and tonumber(redis.call('HGET', base, (n - 1) % per_s) or '0') or 0
  if last > now + 60000 then
    -- Nobody waits as long as that: the clock was set back.
    redis.call('DEL', base)
    n, last = 0, 0
  end
  local back = n >= places and tonumber(redis.call('HGET', base, (n - places) % per_s) or '0') or 0
  at = math.max(now, last, back + window_ms)
  if at - now > most_wait_ms then
    return {'later', now, at - now}
  end
  redis.call('HSET', base, n % per_s, string.format('%.0f', at), 'n', n + 1)
  redis.call('PEXPIRE', base, 120 * 1000)
end
redis.call('HINCRBY', today, 'calls', 1)
if host ~= '' then
  redis.call('HINCRBY', today, of_host, 1)
end
redis.call('PEXPIRE', today, midnight_ms + 3600 * 1000)
return {'granted', now, at - now}
