-- The accounts of budgets in Redis or Valkey; the same rules as MemoryLedger in ledger.py. Amounts are whole numbers.
--
-- KEYS  1 hash of the account: used, reserved, refused, and r:<id> for each reservation
--       2 sorted set of the reservations by the time at which they run out
--       3 hash of the pieces of a sliding window
--       4 mark of a settlement without reservation, so that it counts once
-- ARGV  1 reserve, settle or read   2 id   3 amount   4 limit, or deadline of the reservation   5 force (0 or 1)
--       6 milliseconds that a reservation lives   7 milliseconds that the account is kept   8 piece   9 pieces
-- Answers used, reserved, fits, first, before, refused, oldest, deadline.

local account, queue, ring = KEYS[1], KEYS[2], KEYS[3]
local operation, id, amount = ARGV[1], ARGV[2], ARGV[3]
local piece, pieces = tonumber(ARGV[8]), tonumber(ARGV[9])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function give_back(which)
  local held = redis.call('HGET', account, 'r:' .. which)
  if not held then return false end
  if held ~= '0' then redis.call('HINCRBY', account, 'reserved', '-' .. held) end
  redis.call('HDEL', account, 'r:' .. which)
  redis.call('ZREM', queue, which)
  return true
end

local function expire()
  for _, which in ipairs(redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, 1000)) do
    if not give_back(which) then redis.call('ZREM', queue, which) end
  end
end

local function used()
  if pieces == 0 then return tonumber(redis.call('HGET', account, 'used') or '0'), -1 end
  local sum, oldest, flat = 0, -1, redis.call('HGETALL', ring)
  for at = 1, #flat, 2 do
    local distance = tonumber(flat[at]) - piece
    if math.abs(distance) < pieces then
      sum = sum + tonumber(flat[at + 1])
      if oldest == -1 or tonumber(flat[at]) < oldest then oldest = tonumber(flat[at]) end
    elseif #flat > 8 * pieces then  -- not at once: the clock that is far off may be ours
      redis.call('HDEL', ring, flat[at])
    end
  end
  return sum, oldest
end

local function refused()
  local at = tonumber(redis.call('HGET', account, 'refused') or '-1')
  return at >= 0 and (pieces == 0 or math.abs(at - piece) < pieces)
end

local function keep()
  redis.call('PEXPIRE', account, ARGV[7])
  redis.call('PEXPIRE', queue, ARGV[7])
  if pieces > 0 then redis.call('PEXPIRE', ring, ARGV[7]) end
end

local function answer(sum, oldest, fits, first, before, barred, deadline)
  local reserved = tonumber(redis.call('HGET', account, 'reserved') or '0')
  return {sum, reserved, fits and 1 or 0, first and 1 or 0, before, barred and 1 or 0, oldest, deadline}
end

if operation == 'read' then
  expire()
  local sum, oldest = used()
  return answer(sum, oldest, true, false, sum, refused(), 0)
end

if operation == 'reserve' then
  expire()
  local sum, oldest = used()
  local held = redis.call('HGET', account, 'r:' .. id)
  if held then  -- said again, since the first answer was lost
    return answer(sum, oldest, true, false, sum, refused(), tonumber(redis.call('ZSCORE', queue, id)))
  end
  local reserved = tonumber(redis.call('HGET', account, 'reserved') or '0')
  local fits = sum + reserved + tonumber(amount) <= tonumber(ARGV[4])
  local before = refused()
  if not fits and not before then redis.call('HSET', account, 'refused', piece) end
  local deadline = now + tonumber(ARGV[6])
  if fits or ARGV[5] == '1' then
    redis.call('HSET', account, 'r:' .. id, amount)
    if amount ~= '0' then redis.call('HINCRBY', account, 'reserved', amount) end
    redis.call('ZADD', queue, deadline, id)
  end
  keep()
  return answer(sum, oldest, fits, not fits and not before, sum, before or not fits, deadline)
end

-- settle
local counts = give_back(id)
if not counts then
  local deadline = tonumber(ARGV[4])
  -- Not there and not run out: it was settled before, and the answer was lost.
  counts = deadline <= now and redis.call('SET', KEYS[4], 1, 'NX', 'EX', 86400)
end
expire()
local before = used()
if counts and amount ~= '0' then
  if pieces == 0 then redis.call('HINCRBY', account, 'used', amount)
  else redis.call('HINCRBY', ring, piece, amount) end
end
keep()
local sum, oldest = used()
return answer(sum, oldest, true, false, before, refused(), 0)
