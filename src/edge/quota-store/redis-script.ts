import { createHash } from 'node:crypto'

/**
 * The sliding windows of `core/quota/window.ts`, decided inside Redis: the same 32 sub-windows, the same promise, for
 * all sidecars that use the same keys. One call of the script is one draw: it looks at every window first and writes
 * only when all of them admit.
 *
 * The clock is that of Redis, one for all sidecars, so theirs need not agree. When it jumps back, a window's labels are
 * moved back with it: what was used keeps its age, nothing is freed early and nobody is locked out.
 *
 * KEYS     one for each window, all with the same hash tag.
 * ARGV[1]  now in ms, or empty for the clock of Redis (tests pass theirs).
 * ARGV[2]  `1` charges when everything fits, `0` only asks.
 * then for each key: length of the window in ms, limit, cost, and units that were admitted elsewhere and are still to
 * be recorded; those are written in any case.
 *
 * Answer: 1 or 0 for admitted, then for each key: units used afterwards, ms until the cost fits, ms until it is empty.
 *
 * A value is one MessagePack array: the number of the newest sub-window, then 33 counters, the oldest first; it goes
 * away by itself when the window is empty.
 */
export const DRAW_SCRIPT = `
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local charge = ARGV[2] == '1'
local rings, used, behind, admitted = {}, {}, {}, true
for i = 1, #KEYS do
  local at = 4 * i - 1
  local head = math.floor(now / (tonumber(ARGV[at]) / 32))
  local raw = redis.call('GET', KEYS[i])
  local old = raw and cmsgpack.unpack(raw)
  local ring, sum = {head}, 0
  local moved = 33
  if old then
    moved = math.max(0, head - old[1])
    behind[i] = head < old[1]
  end
  for j = 2, 34 do
    local count = 0
    if old and j + moved <= 34 then count = old[j + moved] end
    ring[j] = count
    sum = sum + count
  end
  local debt = tonumber(ARGV[at + 3])
  ring[34] = ring[34] + debt
  sum = sum + debt
  rings[i] = ring
  used[i] = sum
  if sum + tonumber(ARGV[at + 2]) > tonumber(ARGV[at + 1]) then admitted = false end
end
local out = {admitted and 1 or 0}
for i = 1, #KEYS do
  local at = 4 * i - 1
  local per, limit, cost = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local sub, ring, sum = per / 32, rings[i], used[i]
  local head = ring[1]
  local taken = 0
  if charge and admitted then taken = cost end
  ring[34] = ring[34] + taken
  sum = sum + taken
  if taken > 0 or behind[i] or tonumber(ARGV[at + 3]) > 0 then
    redis.call('SET', KEYS[i], cmsgpack.pack(ring), 'PX', math.ceil(per * 33 / 32) + 1000)
  end
  local function untilLeaves(j)
    local bucket = head + j - 1
    local wait = math.max(1, math.ceil(bucket * sub - now))
    while math.floor((now + wait) / sub) < bucket do wait = wait + 1 end
    return wait
  end
  local excess, fits, empty = sum - taken + cost - limit, 0, 0
  if excess > 0 and not (charge and admitted) then
    for j = 2, 34 do
      if ring[j] > 0 then
        fits = untilLeaves(j)
        excess = excess - ring[j]
        if excess <= 0 then break end
      end
    end
    if fits == 0 then fits = per end
  end
  if sum > 0 then
    local j = 34
    while ring[j] == 0 do j = j - 1 end
    empty = untilLeaves(j)
  end
  out[3 * i - 1] = sum
  out[3 * i] = fits
  out[3 * i + 1] = empty
end
return out
`

/** Under this name Redis keeps the script. */
export const DRAW_SHA = createHash('sha1').update(DRAW_SCRIPT).digest('hex')
