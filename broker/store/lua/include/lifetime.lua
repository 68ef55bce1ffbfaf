-- How long the keys of a run live: all of them end together, gates outlive the rest.
-- ACTIVE_TTL_MS, RETENTION_MS and GATES_TTL_MS come from broker/store/keys.py.
local REFRESH_MS = 3600000

-- How many more executions are active after this call; keep_run adds it to the run's count.
local active_change = 0

local function expire_run(at_ms)
  redis.call('HSET', run_key, 'expires_at_ms', string.format('%.0f', at_ms),
    'last_activity_ms', string.format('%.0f', now_ms))
  for i = 1, #KEYS do
    redis.call('PEXPIREAT', KEYS[i], string.format('%.0f', at_ms))
  end
  if redis.call('EXISTS', gates_key) == 1 then
    redis.call('PEXPIREAT', gates_key, string.format('%.0f', now_ms + GATES_TTL_MS))
  end
end

local function is_finished(active)
  return tonumber(active or '0') <= 0 and redis.call('ZCARD', unsettled_key) == 0
    and redis.call('SCARD', open_cancels_key) == 0
end

-- The last call of every script that writes: what it has kept back goes out, keys made by it get the run's end, a
-- finished run gets its retention, and activity moves the end (at most once an hour, because it touches every key).
local function keep_run()
  write_out()
  if active_change ~= 0 then
    redis.call('HINCRBY', run_key, 'active', active_change)
  end
  save_counts()
  local state = redis.call('HMGET', run_key, 'expires_at_ms', 'last_activity_ms', 'finished', 'active')
  local finished = is_finished(state[4])
  if finished and state[3] ~= '1' then
    redis.call('HSET', run_key, 'finished', '1')
    return expire_run(now_ms + RETENTION_MS)
  end
  local stale = not state[2] or now_ms - tonumber(state[2]) > REFRESH_MS
  if not finished and (stale or state[3] == '1') then
    redis.call('HSET', run_key, 'finished', '0')
    return expire_run(now_ms + ACTIVE_TTL_MS)
  end
  for _, key in ipairs(made) do
    redis.call('PEXPIREAT', key, state[1], 'NX')
  end
end
