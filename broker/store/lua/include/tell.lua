-- Intent before message, in one script: the intent is the truth, the message is the fast path.
local function save_intent(execution_id, e, id, published_us, attempt, force, receivers)
  set_field(intents_key, execution_id, table.concat({ id, published_us, attempt,
    has_open_claim(e) and e.start or '0', force, receivers }, '|'))
end

-- Writes the intent, publishes what it says, and notes in the intent where nobody was subscribed.
local function publish_cancel(execution_id, e, id, operation, source, published_us, attempt, force)
  save_intent(execution_id, e, id, published_us, attempt, force, '')
  post(channels .. 'cancel:' .. execution_id, table.concat({
    '{"v":1,"type":"cancel","cancel_id":"', id, '","run_id":"', run_id, '","execution_id":"', execution_id,
    '","start":', has_open_claim(e) and e.start or '0', ',"source":"', source, '",', operation.message,
    ',"published_at_us":', now_us, ',"attempt":', attempt, ',"deadline_us":', operation.deadline_us,
    ',"force":', force == '1' and 'true' or 'false', '}' }), function()
    save_intent(execution_id, e, id, published_us, attempt, force, '0')
  end)
  count('messages|' .. (force == '1' and 'forced' or attempt == '1' and 'first' or 'redelivery'))
end

-- Tells an execution that runs, or may run: attempt 1.
local function tell(execution_id, e, id, operation, source)
  if not is_terminal(e.status) then
    set_status(e, 'cancelled')
    save_execution(execution_id, e)
  end
  set_unsettled(execution_id)
  publish_cancel(execution_id, e, id, operation, source, now_us, '1', '0')
end

-- Settles an execution that no one has started; the intent stays, so that a late start finds it.
local function never_start(execution_id, e, id)
  set_status(e, 'cancelled')
  save_execution(execution_id, e)
  if not get_field(intents_key, execution_id) then
    save_intent(execution_id, e, id, now_us, '1', '0', '')
  end
  save_ack(execution_id, { disposition = 'never_started', seq = '0', start = e.start, slot = '', outcome = '',
    received_us = '', settled_us = now_us, detail = '' })
  set_settled(execution_id)
  count('settled_without_lag|never_started')
end

-- Status alone never settles: only one that nobody claimed and that is not said to run was never started. To be
-- asked before it is told: a cancelled one does not show any more what was said of it.
local function was_never_started(e)
  local status = canonical(e.status)
  return not has_open_claim(e) and not is_seen_to_run(e) and status ~= 'running' and status ~= 'unknown'
end
