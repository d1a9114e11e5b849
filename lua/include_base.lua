-- Shared by the scripts that say "include base"; the loader puts this text there.
-- Local functions only: a global would poison every later script of the server.

-- Stop before anything was written: the data contradict themselves, and going on would only make it worse. The broker
-- makes `PoolDamaged` of it; the form is read there.
local function damaged(key, what)
  error('DAMAGED ' .. key .. ' ' .. what .. ';', 0)
end

-- A command that only reads. The type of every key that a script is going to write is found out by reading it first.
local function read(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) == 'table' and answer.err then
    damaged(key, 'is of a wrong type')
  end
  return answer
end

-- Milliseconds and fences as text. Lua's own way gives 1.8e+12, and Redis's takes several times as long.
local function digits(number)
  return string.format('%d', number)
end

-- The moment of this script in ms, and the next fence. `fence` holds the last one, which is the largest time seen, in
-- microseconds. Time that goes back (a corrected clock, another server) stands still here until it has caught up, so that
-- no deadline is ever reckoned from an earlier moment than one that went before. And a new fence is never behind the
-- time, hence ahead of every fence that was handed out before, even if Redis was restored from an older copy and knows
-- nothing of them: a server grants less than once in a microsecond.
local function clock(base)
  local t = redis.call('TIME')
  local fence = tonumber(read('GET', base .. 'fence') or 0)
  if not fence then
    damaged(base .. 'fence', 'is not a number')
  end
  local microseconds = t[1] * 1000000 + t[2]
  return math.floor(math.max(microseconds, fence) / 1000), math.max(microseconds, fence + 1)
end

-- "account#index@fence" -> slot, account
local function split_lease(id)
  return string.match(id, '^((.+)#%d+)@%d+$')
end

local function account_of(slot)
  return string.match(slot, '^(.+)#%d+$')
end

local function emit(base, maxlen, type, lesson, lease, ...)
  redis.call('XADD', base .. 'events', 'MAXLEN', '~', maxlen, '*',
    'type', type, 'lesson', lesson, 'lease', lease, ...)
end

-- Of an owner the index says, in one text, the leases that he holds and the lessons for which he waits.
local function add_to_owner(base, owner, held, name)
  redis.call('HSET', base .. 'owners', owner, held and (held .. ' ' .. name) or name)
end
