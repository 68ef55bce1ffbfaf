-- A status that someone reports who does not hold the execution: a control plane, by event.
-- KEYS run_keys
-- ARGV run_id: id in the hash tag
-- ARGV channels: prefix of the run's channels
-- ARGV execution_id: recorded here where it is not known yet
-- ARGV status: the word as reported
-- RETURNS changed: the status is what was reported; an open claim stays open
-- RETURNS settled: its gate is closed and nobody holds it: it ended by itself, the outcome is kept
-- RETURNS kept: it has ended already, terminal is terminal
-- RETURNS reopened: it was never started, it was said, and now it is said to run: told again
-- INCLUDE clock statuses executions lifetime operations cover tell acks
local e = read_execution(execution_id)
if not e then
  e = new_execution('pending', '', '', '', '')
  save_execution(execution_id, e)
end
local reopened = {}

local function covering()
  return (covering_cancels(execution_id, e.parent))
end

-- Evidence of a start after never_started: told like a running one, and whatever covers it is open again.
local function tell_again(intent)
  local id = string.match(intent, '^[^|]*')
  local operation = read_operation(id)
  if not operation then
    return { 'kept' }
  end
  redis.call('HDEL', acks_key, execution_id)
  redis.call('ZADD', unsettled_key, now_us, execution_id)
  publish_cancel(execution_id, e, id, operation, 'gate', now_us, '2', '0')
  redis.call('HINCRBY', run_key, 'epoch', 1)
  for _, covering_id in ipairs(covering()) do
    reopen_operation(covering_id, 'seen to start', false, reopened)
  end
  local narrow = redis.call('HGET', gates_key, '=' .. execution_id)
  if narrow then
    reopen_operation(narrow, 'seen to start', false, reopened)
  end
  return { 'reopened', reopened }
end

-- Under a closed gate an end that is no success is the cancel's doing (trap T37).
local function end_under_gate(id)
  save_intent(execution_id, e, id, now_us, '1', '0', '')
  redis.call('HINCRBY', run_key, 'epoch', 1)
  set_status(e, 'cancelled')
  save_execution(execution_id, e)
  local ack = read_ack(execution_id)
  ack.disposition, ack.outcome, ack.settled_us = 'ended_itself', status, now_us
  save_ack(execution_id, ack)
  local settled = {}
  settle_operations(execution_id, settled)
  notify({ event_of(execution_id, 'ended_itself') }, settled)
  return { 'settled' }
end

local function report()
  local word = canonical(status)
  local intent = redis.call('HGET', intents_key, execution_id)
  if intent and word == 'running' and read_ack(execution_id).disposition == 'never_started' then
    return tell_again(intent)
  end
  if is_terminal(e.status) then
    return { 'kept' }
  end
  local gates = not has_open_claim(e) and is_terminal(status) and word ~= 'succeeded' and covering() or {}
  if #gates > 0 then
    return end_under_gate(gates[1])
  end
  set_status(e, status)
  save_execution(execution_id, e)
  return { 'changed' }
end

local answer = report()
keep_run({ run_key, executions_key, intents_key, acks_key, unsettled_key, log_key, open_cancels_key })
return answer
