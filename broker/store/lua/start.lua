-- Claims an execution for a worker, or answers with the cancel that stands against it; never both.
-- KEYS run_keys
-- ARGV run_id: id in the hash tag
-- ARGV channels: prefix of the run's channels
-- ARGV execution_id: recorded here where it is not known yet
-- ARGV parent: parent execution id, empty where unknown
-- ARGV agent_node: group of the worker, empty where unknown
-- ARGV reasoner: what runs, empty where unknown
-- ARGV worker_id: the process that asks
-- ARGV incarnation: of that process
-- ARGV supersedes: start number of a claim whose holder's heartbeat has expired, empty for none
-- RETURNS claimed: start number; cancel ids to look at again; the epoch of the run
-- RETURNS cancelled: start number of a claim this worker holds, 0 for none; cancel ids to look at again; cancel id
-- RETURNS terminal: status; the execution has ended
-- RETURNS already_claimed: worker id of the holder; its start number
-- RETURNS fenced: incarnation of the newer process that holds it
-- RETURNS parent_conflict: it is known under another parent
-- RETURNS too_deep: its ancestors cannot be checked
-- INCLUDE clock statuses executions lifetime operations cover tell acks adopt
local reopened = {}

-- The cancel that stands against a start: an intent, or a gate whose walk has not come by yet.
local function standing_cancel(e)
  local intent = redis.call('HGET', intents_key, execution_id)
  if intent then
    return string.match(intent, '^[^|]*')
  end
  if is_terminal(e.status) then
    return nil
  end
  local covering, too_deep = covering_cancels(execution_id, e.parent)
  return covering[1], too_deep
end

local function is_mine(e)
  return e.slot == worker_slot(worker_id) and e.incarnation == incarnation
end

local function answer_cancelled(e, id)
  if not has_open_claim(e) and RANK[read_ack(execution_id).disposition] < 2 then
    never_start(execution_id, e, id)
    redis.call('HINCRBY', run_key, 'epoch', 1)
    local settled = {}
    settle_operations(execution_id, settled)
    notify({ event_of(execution_id, 'never_started') }, settled)
  end
  return { 'cancelled', has_open_claim(e) and is_mine(e) and e.start or '0', reopened, id }
end

local function holder_in_the_way(e)
  if not has_open_claim(e) or is_mine(e) or e.start == supersedes then
    return nil
  end
  local slot = worker_slot(worker_id)
  if e.slot == slot and tonumber(e.incarnation) > tonumber(incarnation) then
    return { 'fenced', e.incarnation }
  end
  if e.slot == slot then
    return nil
  end
  return { 'already_claimed', redis.call('HGET', workers_key, e.slot) or '', e.start }
end

local function claim(e)
  if not has_open_claim(e) or not is_mine(e) then
    if has_open_claim(e) then
      redis.call('HINCRBY', run_key, 'epoch', 1)
    end
    set_status(e, 'running')
    e.start = string.format('%.0f', tonumber(e.start) + 1)
    e.slot, e.incarnation = worker_slot(worker_id), incarnation
    e.started_us = now_us
    save_execution(execution_id, e)
  end
  return { 'claimed', e.start, reopened, redis.call('HGET', run_key, 'epoch') or '0' }
end

local function start()
  local code = record(execution_id, { status = 'pending', parent = parent, agent_node = agent_node,
    reasoner = reasoner, started_us = '' }, reopened)
  if code == 'parent_conflict' or code == 'too_deep' then
    return { code }
  end
  local e = read_execution(execution_id)
  local id, too_deep = standing_cancel(e)
  if too_deep then
    return { 'too_deep' }
  end
  if id then
    return answer_cancelled(e, id)
  end
  if is_terminal(e.status) then
    return { 'terminal', e.status }
  end
  return holder_in_the_way(e) or claim(e)
end

local answer = start()
keep_run({ run_key, executions_key, workers_key, missing_key, intents_key, acks_key, unsettled_key, log_key })
return answer
