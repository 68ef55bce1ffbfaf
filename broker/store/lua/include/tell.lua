-- Intent before message, in one script: the intent is the truth, the message is the fast path.
local function save_intent(execution_id, e, id, published_us, attempt, force, receivers)
  redis.call('HSET', intents_key, execution_id, table.concat({ id, published_us, attempt,
    has_open_claim(e) and e.start or '0', force, receivers }, '|'))
end

-- Writes the intent, publishes, and notes in the intent where nobody was subscribed.
local function publish_cancel(execution_id, e, id, operation, source, published_us, attempt, force)
  save_intent(execution_id, e, id, published_us, attempt, force, '')
  local receivers = redis.call('PUBLISH', channels .. 'cancel:' .. execution_id, table.concat({
    '{"v":1,"type":"cancel","cancel_id":"', id, '","run_id":"', run_id, '","execution_id":"', execution_id,
    '","start":', has_open_claim(e) and e.start or '0', ',"source":"', source, '",', operation.message,
    ',"published_at_us":', now_us, ',"attempt":', attempt, ',"deadline_us":', operation.deadline_us,
    ',"force":', force == '1' and 'true' or 'false', '}' }))
  count('messages|' .. (force == '1' and 'forced' or attempt == '1' and 'first' or 'redelivery'))
  if tonumber(receivers) == 0 then
    save_intent(execution_id, e, id, published_us, attempt, force, '0')
  end
end

-- Tells an execution that runs, or may run: attempt 1.
local function tell(execution_id, e, id, operation, source)
  if not is_terminal(e.status) then
    set_status(e, 'cancelled')
    save_execution(execution_id, e)
  end
  redis.call('ZADD', unsettled_key, now_us, execution_id)
  publish_cancel(execution_id, e, id, operation, source, now_us, '1', '0')
end

-- Settles an execution that no one has started; the intent stays, so that a late start finds it.
local function never_start(execution_id, e, id)
  set_status(e, 'cancelled')
  save_execution(execution_id, e)
  if redis.call('HEXISTS', intents_key, execution_id) == 0 then
    save_intent(execution_id, e, id, now_us, '1', '0', '')
  end
  save_ack(execution_id, { disposition = 'never_started', seq = '0', start = e.start, slot = '', outcome = '',
    received_us = '', settled_us = now_us, detail = '' })
  redis.call('ZREM', unsettled_key, execution_id)
  count('settled_without_lag|never_started')
end

-- Status alone never settles: only one that nobody claimed and that is not said to run was never started.
local function was_never_started(e)
  local status = canonical(e.status)
  return not has_open_claim(e) and status ~= 'running' and status ~= 'unknown'
end
