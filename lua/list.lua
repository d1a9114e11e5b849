-- list: a page of a pool's leases or accounts.
-- include base
-- include lease
-- key base: the pool's prefix, zp:{pool}:
-- arg kind: leased, suspect or accounts
-- arg offset: how many to pass over
-- arg count: how many to return, 500 at most
-- returns {now_ms, {deadline_ms or since_ms, lease fields} of each}: leases, nearest deadline first
-- returns {now_ms, {account id, account fields} of each}: accounts, in the order of their ids
-- error UNKNOWN_KIND: kind is none of the above
local base = KEYS[1]
local kind = ARGV[1]
local offset = math.max(0, tonumber(ARGV[2]))
local count = math.max(0, math.min(tonumber(ARGV[3]), 500))

local page = {(clock(base))}
if kind == 'leased' or kind == 'suspect' then
  -- Asked for none, ZRANGE 0 -1 would return all.
  local rows = count > 0 and read('ZRANGE', base .. kind, offset, offset + count - 1, 'WITHSCORES') or {}
  for i = 1, #rows, 2 do
    local _, fields = whole_lease(base, rows[i])
    page[#page + 1] = {tonumber(rows[i + 1]), fields}
  end
elseif kind == 'accounts' then
  local ids = read('SORT', base .. 'accounts', 'LIMIT', offset, count, 'ALPHA')
  for _, id in ipairs(ids) do
    page[#page + 1] = {id, read('HGETALL', base .. 'account:' .. id)}
  end
else
  return redis.error_reply('UNKNOWN_KIND ' .. kind)
end
return page
