-- dashboard: a picture of a pool for people, as text: counts, leases, parked accounts, last events.
-- key base: the pool's prefix, zp:{pool}:
-- arg rows: how many leases and how many parked slots to show, 1 to 500; 50 when absent
-- arg utc_offset_min: minutes that the clock of the reader is ahead of UTC; 0 when absent
-- returns text: lines of at most 120 characters, without links or passcodes
-- error NOT_A_NUMBER: an argument is neither absent nor a number

-- It stands alone, includes nothing, and reads only: redis-cli --raw --eval lua/dashboard.lua 'zp:{default}:' , 50 0
local base = KEYS[1] or ''
local WIDTH = 120
local BAR = 40
local EVENTS = 10

local function number(text, default)
  if text == nil or text == '' then
    return default
  end
  return tonumber(text)
end

local rows = number(ARGV[1], 50)
local utc_offset_min = number(ARGV[2], 0)
if not rows or not utc_offset_min then
  return redis.error_reply('NOT_A_NUMBER rows and utc_offset_min are numbers')
end
rows = math.max(1, math.min(500, math.floor(rows)))

local pool = string.match(base, '^zp:{(.+)}:$')
if not pool then
  return "Give the pool's prefix as the key, like 'zp:{default}:'. The pools are in: redis-cli SMEMBERS zp:pools"
end

-- Text. Reasons are free text in any script, so characters are counted, not bytes; what could steer a terminal or is
-- not UTF-8 becomes a question mark, and a link, which may let its reader in, is left out.

local CHARACTER = {
  '^[\32-\126]',
  '^\194[\160-\191]', '^[\195-\223][\128-\191]',
  '^\224[\160-\191][\128-\191]', '^[\225-\236\238\239][\128-\191][\128-\191]', '^\237[\128-\159][\128-\191]',
  '^\240[\144-\191][\128-\191][\128-\191]', '^[\241-\243][\128-\191][\128-\191][\128-\191]',
  '^\244[\128-\143][\128-\191][\128-\191]',
}

local function characters(text)
  local found, at = {}, 1
  text = string.gsub(string.sub(text, 1, 4 * WIDTH), '%w+://%S+', '[link]')
  while at <= #text do
    local character
    for _, pattern in ipairs(CHARACTER) do
      character = string.match(text, pattern, at)
      if character then
        break
      end
    end
    found[#found + 1] = character or '?'
    at = at + (character and #character or 1)
  end
  return found
end

-- Names differ at their ends more often than in the middle, so a long one is cut there; sentences are cut at the end.
local function cut(found, width, middle)
  if #found <= width then
    return table.concat(found)
  end
  local tail = middle and math.floor((width - 1) / 2) or 0
  return table.concat(found, '', 1, width - 1 - tail) .. '…' .. table.concat(found, '', #found - tail + 1)
end

-- Lines of aligned columns; while they are too wide together, the widest gives way. `columns` says where to cut each.
local function aligned(columns, cells)
  local cell, width, total = {}, {}, 0
  for r, row in ipairs(cells) do
    cell[r] = {}
    for c = 1, #columns do
      cell[r][c] = characters(row[c] or '')
      width[c] = math.max(width[c] or 0, #cell[r][c])
    end
  end
  for c = 1, #columns do
    total = total + width[c] + (c > 1 and 2 or 0)
  end
  while total > WIDTH do
    local widest = 1
    for c = 2, #columns do
      widest = width[c] > width[widest] and c or widest
    end
    width[widest] = width[widest] - 1
    total = total - 1
  end
  local lines = {}
  for r = 1, #cells do
    local parts = {}
    for c, how in ipairs(columns) do
      local pad = math.max(0, width[c] - #cell[r][c])
      parts[c] = cut(cell[r][c], width[c], how == 'middle') .. string.rep(' ', pad)
    end
    lines[r] = string.gsub(table.concat(parts, '  '), ' +$', '')
  end
  return lines
end

local function plural(n, word)
  return string.format('%.0f %s%s', n, word, n == 1 and '' or 's')
end

-- Time. Redis gives scripts no calendar: days to date after Howard Hinnant's civil_from_days.

local function date_time(ms)
  local seconds = math.floor(ms / 1000) + utc_offset_min * 60
  local day, rest = math.floor(seconds / 86400), seconds % 86400
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02d', year, month, doy - math.floor((153 * mp + 2) / 5) + 1),
    string.format('%02d:%02d:%02d', math.floor(rest / 3600), math.floor(rest / 60) % 60, rest % 60)
end

local t = redis.call('TIME')
local time = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local now = math.max(time, math.floor(tonumber(redis.call('GET', base .. 'fence') or '0') / 1000))
local today, time_now = date_time(now)

local function when(ms)
  local date, time = date_time(ms)
  return date == today and time or string.sub(date, 6) .. ' ' .. string.sub(time, 1, 5)
end

local function span(ms)
  local s = math.floor(math.abs(ms) / 1000)
  local text
  if s < 60 then
    text = string.format('%ds', s)
  elseif s < 3600 then
    text = string.format('%dm%02ds', math.floor(s / 60), s % 60)
  elseif s < 86400 then
    text = string.format('%dh%02dm', math.floor(s / 3600), math.floor(s / 60) % 60)
  else
    text = string.format('%dd%02dh', math.floor(s / 86400), math.floor(s / 3600) % 24)
  end
  return (ms < 0 and s > 0) and '-' .. text or text
end

-- The pool. Only counts, `rows` leases, `rows` parked slots and a few events are read, however large it is.

local accounts = redis.call('SCARD', base .. 'accounts')
local counts = {
  {'leased', '#', redis.call('ZCARD', base .. 'leased')},
  {'suspect', '!', redis.call('ZCARD', base .. 'suspect')},
  {'parked', '-', redis.call('ZCARD', base .. 'parked')},
  {'free', '.', redis.call('ZCARD', base .. 'free')},
}
local leased, suspect, parked = counts[1][3], counts[2][3], counts[3][3]
local slots = leased + suspect + parked + counts[4][3]
local events = redis.call('XREVRANGE', base .. 'events', '+', '-', 'COUNT', EVENTS)
if accounts == 0 and slots == 0 and #events == 0 then
  return aligned({'end'}, {{'Pool ' .. pool .. ' is not known here: it has no accounts. See the pools with: '
    .. 'redis-cli SMEMBERS zp:pools'}})[1]
end

local out = {}
local function print_lines(lines)
  for _, line in ipairs(lines) do
    out[#out + 1] = line
  end
end
local function more(n, what)
  if n > 0 then
    out[#out + 1] = '   … and ' .. string.format('%.0f', n) .. ' more ' .. what
  end
end

local zone = 'UTC'
if utc_offset_min ~= 0 then
  local ahead = math.abs(utc_offset_min)
  zone = string.format('UTC%s%02d:%02d', utc_offset_min < 0 and '-' or '+', math.floor(ahead / 60), ahead % 60)
end
local clock = today .. ' ' .. time_now .. ' ' .. zone
local title = cut(characters('Pool ' .. pool), WIDTH - #clock - 2, true)
out[1] = title .. string.rep(' ', WIDTH - #clock - #characters(title)) .. clock

local bar, legend, left = '', {}, math.min(BAR, slots)
for i, part in ipairs(counts) do
  local share = slots <= BAR and part[3] or math.floor(part[3] / slots * BAR + 0.5)
  share = math.min(left, (part[3] > 0 and share == 0) and 1 or share)
  share = i == #counts and left or share
  left = left - share
  bar = bar .. string.rep(part[2], share)
  legend[i] = part[2] .. ' ' .. string.format('%.0f', part[3]) .. ' ' .. part[1]
end
out[2] = '[' .. bar .. ']  ' .. table.concat(legend, '   ') .. '   of ' .. plural(slots, 'slot') .. ', '
  .. plural(accounts, 'account')
out[3] = now > time and 'Redis\'s clock went back; no deadline passes until it has caught up, in ' .. span(now - time)
  or ''

-- Suspects come first: they hold a host back. They leave half of the rows to running leases that need them.
local suspects_shown = math.min(suspect, math.max(rows - leased, math.ceil(rows / 2)))
local leases_shown = math.min(leased, rows - suspects_shown)

local states = {}
local function state_of(slot)
  local account = string.match(slot, '^(.+)#%d+$') or slot
  if not states[account] then
    states[account] = redis.call('HGET', base .. 'account:' .. account, 'state') or 'unknown'
  end
  return states[account]
end

local phases, order = {}, {}
local cells = {{' ', 'SLOT', 'LESSON', 'OWNER', 'PHASE', 'AGE', 'LEFT', 'MEETING'}}
local function add_leases(kind, n)
  if n <= 0 then
    return
  end
  local page = redis.call('ZRANGE', base .. kind, 0, n - 1, 'WITHSCORES')
  for i = 1, #page, 2 do
    local slot = page[i]
    local l = redis.call('HMGET', base .. 'slot:' .. slot, 'lesson', 'owner', 'phase', 'was', 'granted_ms', 'meeting_id')
    local phase = l[3] or 'NO LEASE'
    if not phases[phase] then
      order[#order + 1] = phase
    end
    phases[phase] = (phases[phase] or 0) + 1
    cells[#cells + 1] = {
      kind == 'suspect' and '!' or state_of(slot) ~= 'active' and '-' or '',
      slot, l[1] or '?', l[2] or '?',
      kind == 'suspect' and l[4] and phase .. '/' .. l[4] or phase,
      l[5] and span(now - tonumber(l[5])) or '?',
      -- Negative for a suspect lease: for how long it has been waiting for Zoom's word.
      span(tonumber(page[i + 1]) - now),
      l[6] or '',
    }
  end
end
add_leases('suspect', suspects_shown)
add_leases('leased', leases_shown)

local by_phase = {}
for i, phase in ipairs(order) do
  by_phase[i] = string.format('%.0f %s', phases[phase], phase)
end
out[4] = 'LEASES ' .. string.format('%.0f', leased + suspect)
  .. (#by_phase > 0 and '   ' .. table.concat(by_phase, ', ') or '')
  .. (suspects_shown + leases_shown < leased + suspect and ' among those shown' or '')
if leased + suspect > 0 then
  print_lines(aligned({'end', 'middle', 'middle', 'middle', 'end', 'end', 'end', 'end'}, cells))
  more(suspect - suspects_shown, 'suspect')
  more(leased - leases_shown, 'running, with later deadlines')
  out[#out + 1] = '   ! suspect: expired, waits for Zoom\'s word   - its account is out of rotation'
end

local waiting = redis.call('ZCARD', base .. 'waiting')
if waiting > 0 then
  out[#out + 1] = ''
  out[#out + 1] = 'WAITING ' .. plural(waiting, 'lesson')
  local lines = {{'', 'LESSON', 'OWNER', 'WAITED', 'GIVES UP IN'}}
  for i, lesson in ipairs(redis.call('ZRANGE', base .. 'waiting', 0, math.min(rows, 10) - 1)) do
    local w = redis.call('HMGET', base .. 'ticket:' .. lesson, 'owner', 'asked_ms', 'until_ms')
    lines[i + 1] = {'', lesson, w[1] or '?', w[2] and span(now - tonumber(w[2])) or '?',
      w[3] and span(tonumber(w[3]) - now) or '?'}
  end
  print_lines(aligned({'end', 'middle', 'middle', 'end', 'end'}, lines))
  more(waiting - #lines + 1, 'waiting')
end

local reservations = redis.call('ZCARD', base .. 'reservations')
if reservations > 0 then
  local due = redis.call('ZCOUNT', base .. 'due', '-inf', string.format('%.0f', now))
  out[#out + 1] = ''
  out[#out + 1] = 'RESERVED ' .. string.format('%.0f', due) .. ' now, for lessons about to start; '
    .. plural(reservations, 'reservation') .. ' in all'
end

if parked > 0 then
  out[#out + 1] = ''
  out[#out + 1] = 'PARKED ' .. plural(parked, 'slot')
  local page = redis.call('ZRANGE', base .. 'parked', 0, rows - 1, 'WITHSCORES')
  local lines, at = {{'', 'ACCOUNT', 'SLOTS', 'STATE', 'UNTIL', 'REASON'}}, {}
  for i = 1, #page, 2 do
    local account = string.match(page[i], '^(.+)#%d+$') or page[i]
    if at[account] then
      lines[at[account]][3] = lines[at[account]][3] + 1
    else
      local a = redis.call('HMGET', base .. 'account:' .. account, 'state', 'reason')
      local until_ms = tonumber(page[i + 1])
      lines[#lines + 1] = {
        '-', account, 1, a[1] or 'unknown',
        -- An infinite score has no date: it waits for somebody or, in an active account, for its other slots.
        (until_ms and until_ms < 1e15) and when(until_ms) or a[1] == 'active' and 'released' or 'an operator',
        a[1] == 'active' and 'its account has as many leases as its capacity allows' or a[2] or '',
      }
      at[account] = #lines
    end
  end
  for i = 2, #lines do
    lines[i][3] = string.format('%d', lines[i][3])
  end
  print_lines(aligned({'end', 'middle', 'end', 'end', 'end', 'end'}, lines))
  more(parked - #page / 2, 'parked slots')
end

out[#out + 1] = ''
out[#out + 1] = 'LAST EVENTS'
local last = {}
for _, entry in ipairs(events) do
  local e = {}
  for i = 1, #entry[2], 2 do
    e[entry[2][i]] = entry[2][i + 1]
  end
  local why = {}
  for _, field in ipairs({'was', 'state', 'reason', 'detail', 'phase', 'meeting_id'}) do
    if e[field] and e[field] ~= '' then
      why[#why + 1] = ((field == 'reason' or field == 'detail' or field == 'state') and '' or
        (field == 'meeting_id' and 'meeting ' or field == 'phase' and 'in ' or field .. ' ')) .. e[field]
    end
  end
  last[#last + 1] = {
    '', when(tonumber(string.match(entry[1], '^%d+'))), e.type or '?',
    (e.lesson and e.lesson ~= '') and e.lesson or e.account or '', e.lease or '', table.concat(why, ', '),
  }
end
print_lines(aligned({'end', 'end', 'end', 'middle', 'middle', 'end'}, last))
return table.concat(out, '\n')
