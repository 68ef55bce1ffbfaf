-- Intent before message, in one script: the intent is the truth, the message is the fast path.
local function save_intent(execution_id, e, id, published_us, attempt, force)
  set_field(intents_key, execution_id, id .. '|' .. published_us .. '|' .. attempt .. '|'
    .. (has_open_claim(e) and e.start or '0') .. '|' .. force .. '|')
end

-- What a message says, but for its execution and the claim it is meant for: the same for a whole chunk.
local function new_message(id, operation, source, attempt, force)
  return {
    id = id, attempt = attempt, force = force,
    kind = 'messages|' .. (force == '1' and 'forced' or attempt == '1' and 'first' or 'redelivery'),
    head = '{"v":1,"type":"cancel","cancel_id":"' .. id .. '","run_id":"' .. run_id .. '","execution_id":"',
    tail = ',"source":"' .. source .. '",' .. operation.message .. ',"published_at_us":' .. now_us .. ',"attempt":'
      .. attempt .. ',"deadline_us":' .. operation.deadline_us .. ',"force":' .. (force == '1' and 'true' or 'false')
      .. '}',
  }
end

-- Writes the intent, then publishes what it says. published_us: time of attempt 1.
local function publish_cancel(execution_id, e, message, published_us)
  save_intent(execution_id, e, message.id, published_us, message.attempt, message.force)
  post(execution_id, channels .. 'cancel:' .. execution_id, message.head .. execution_id .. '","start":'
    .. (has_open_claim(e) and e.start or '0') .. message.tail)
  count(message.kind)
end

-- Tells an execution that runs, or may run: attempt 1.
local function tell(execution_id, e, message)
  if not is_terminal(e.status) then
    set_status(e, 'cancelled')
    save_execution(execution_id, e)
  end
  set_unsettled(execution_id)
  publish_cancel(execution_id, e, message, now_us)
end

-- Settles an execution that no one has started; the intent stays, so that a late start finds it.
local function never_start(execution_id, e, id)
  set_status(e, 'cancelled')
  save_execution(execution_id, e)
  if not get_field(intents_key, execution_id) then
    save_intent(execution_id, e, id, now_us, '1', '0')
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
