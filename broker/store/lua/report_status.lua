-- A status that someone reports who does not hold the execution: a control plane, by event.
-- KEYS run_keys
-- ARGV run_id: id in the hash tag
-- ARGV channels: prefix of the run's channels
-- ARGV execution_id: recorded here where it is not known yet
-- ARGV status: the word as reported
-- RETURNS changed: the status is what was reported; an open claim stays open
-- RETURNS settled: it was cancelled and nobody holds it: it ended by itself, the outcome is kept
-- RETURNS kept: it has ended already, terminal is terminal
-- RETURNS cancelled: not known before, and its gate is closed: never to be started, or told at once; cancel ids to look at again
-- RETURNS reopened: it was never started, it was said, and now it is said to run: told again; cancel ids to look at again
-- INCLUDE clock statuses lifetime executions operations cover acks evidence tell adopt
local reopened = {}

local function covering(e)
  return (covering_cancels(execution_id, e.parent))
end

-- Evidence of a start after never_started: told like a running one, and whatever covers it is open again.
local function tell_again(e, intent)
  local id = string.match(intent, '^[^|]*')
  redis.call('HDEL', acks_key, execution_id)
  reopen_covering(execution_id, e, 'seen to start', reopened)
  publish_cancel(execution_id, e, id, read_operation(id) or FORGOTTEN, 'gate', now_us, '2', '0')
  return { 'reopened', reopened }
end

-- It was cancelled, or its gate is closed and the end is no success (trap T37): what it came to is kept.
local function end_by_itself(e)
  set_status(e, 'cancelled')
  save_execution(execution_id, e)
  local ack = read_ack(execution_id)
  ack.disposition, ack.outcome, ack.settled_us = 'ended_itself', status, now_us
  save_ack(execution_id, ack)
  redis.call('ZREM', unsettled_key, execution_id)
  notify({ event_of(execution_id, 'ended_itself') }, settle_operations({ execution_id }))
  return { 'settled' }
end

-- A cancelled one: only a start that nobody had seen, or an end where nobody holds it, is news.
local function report_cancelled(e, intent)
  local word = canonical(status)
  if word == 'running' and read_ack(execution_id).disposition == 'never_started' then
    return tell_again(e, intent)
  end
  if is_terminal(word) and not has_open_claim(e) and redis.call('ZSCORE', unsettled_key, execution_id) then
    return end_by_itself(e)
  end
  return { 'kept' }
end

local function report_new()
  local said = { status = status, parent = '', agent_node = '', reasoner = '', started_us = '' }
  local code = record_new(execution_id, said, reopened)
  return { code == 'run_cancelled' and 'cancelled' or 'changed', reopened }
end

local function report()
  local e = read_execution(execution_id)
  local intent = redis.call('HGET', intents_key, execution_id)
  if not e and not is_terminal(status) then
    return report_new()
  end
  e = e or new_execution('pending', '', '', '', '')
  redis.call('SREM', missing_key, execution_id)
  if intent then
    return report_cancelled(e, intent)
  end
  if is_terminal(e.status) then
    return { 'kept' }
  end
  local gates = not has_open_claim(e) and is_terminal(status) and canonical(status) ~= 'succeeded' and covering(e) or {}
  if #gates > 0 then
    save_intent(execution_id, e, gates[1], now_us, '1', '0', '')
    redis.call('HINCRBY', run_key, 'epoch', 1)
    return end_by_itself(e)
  end
  set_status(e, status)
  save_execution(execution_id, e)
  return { 'changed' }
end

local answer = report()
keep_run({ run_key, executions_key, missing_key, intents_key, acks_key, unsettled_key, log_key, open_cancels_key })
return answer
