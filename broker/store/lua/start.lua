-- Claims executions for a worker, or answers with the cancel that stands against them; never both.
-- KEYS run_keys
-- ARGV run_id: id in the hash tag
-- ARGV channels: prefix of the run's channels
-- ARGV worker_id: the process that asks
-- ARGV incarnation: of that process
-- ARGV agent_node: group of the worker, empty where unknown
-- ARGV (execution_id parent reasoner supersedes)...: at most 100; recorded where not known yet; supersedes is the start number of a claim whose holder's heartbeat has expired, empty for none
-- RETURNS started: cancel ids to look at again, then code, number and word for each
-- EACH claimed: start number
-- EACH cancelled: start number of a claim this worker holds, 0 for none; cancel id
-- EACH terminal: 0; status: the execution has ended
-- EACH already_claimed: the holder's start number; its worker id
-- EACH fenced: incarnation of the newer process that holds it
-- EACH parent_conflict: it is known under another parent
-- EACH too_deep: its ancestors cannot be checked
-- INCLUDE clock pages statuses counts lifetime executions operations cover acks lost tell adopt
local slot = worker_slot(worker_id)
local reopened, events, ended, lost = {}, {}, {}, {}

-- The cancel that stands against a start: an intent, or a gate whose walk has not come by yet.
local function standing_cancel(execution_id, e)
  local intent = get_field(intents_key, execution_id)
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
  return e.slot == slot and e.incarnation == incarnation
end

-- An older process of this worker id holds it, and this one speaks: that is the proof that the older is gone.
local function lose_older(execution_id, e)
  local is_older = e.slot == slot and e.incarnation ~= '0' and tonumber(e.incarnation) < tonumber(incarnation)
  if is_older and is_unsettled(execution_id) then
    lost[#lost + 1] = execution_id .. ' start ' .. e.start .. ' of ' .. worker_id .. ': newer incarnation ' .. incarnation
    lose_claim(execution_id, e, 'newer incarnation ' .. incarnation)
    ended[#ended + 1] = execution_id
    events[#events + 1] = event_of(execution_id, 'lost')
  end
end

-- What was told or is said to run goes on in somebody's hands, though no claim says whose: that this one is refused
-- proves no end of it. The walk tells it, or has.
local function answer_cancelled(execution_id, e, id)
  count('refusals|start')
  lose_older(execution_id, e)
  if not get_field(intents_key, execution_id) and was_never_started(e) then
    never_start(execution_id, e, id)
    redis.call('HINCRBY', run_key, 'epoch', 1)
    ended[#ended + 1] = execution_id
    events[#events + 1] = event_of(execution_id, 'never_started')
  end
  return 'cancelled', is_mine(e) and e.start or '0', id
end

local function holder_in_the_way(e, supersedes)
  if not has_open_claim(e) or is_mine(e) or e.start == supersedes then
    return nil
  end
  if e.slot ~= slot then
    return 'already_claimed', e.start, redis.call('HGET', workers_key, e.slot) or ''
  end
  if tonumber(e.incarnation) > tonumber(incarnation) then
    return 'fenced', e.incarnation, ''
  end
  return nil
end

local function claim(execution_id, e)
  if not is_mine(e) then
    if has_open_claim(e) then
      redis.call('HINCRBY', run_key, 'epoch', 1)
    end
    set_status(e, 'running')
    e.start = string.format('%.0f', tonumber(e.start) + 1)
    e.slot, e.incarnation = slot, incarnation
    start_now(e)
    e.stamp = SAME
    save_execution(execution_id, e)
  end
  return 'claimed', e.start, ''
end

local function start(execution_id, said, supersedes)
  local code, e = record(execution_id, said, reopened)
  if code == 'parent_conflict' or code == 'too_deep' then
    return code, '0', ''
  end
  local id, too_deep = standing_cancel(execution_id, e)
  if too_deep then
    return 'too_deep', '0', ''
  end
  if id then
    return answer_cancelled(execution_id, e, id)
  end
  if is_terminal(e.status) then
    return 'terminal', '0', e.status
  end
  local refusal, number, word = holder_in_the_way(e, supersedes)
  if refusal then
    return refusal, number, word
  end
  return claim(execution_id, e)
end

local ids = ids_from(first_execution_id, 4)
expect(executions_key, ids)
expect(intents_key, ids)
local answer, said = { 'started', reopened }, { status = 'pending', agent_node = agent_node, started_us = '' }
for i = first_execution_id, #ARGV, 4 do
  said.parent, said.reasoner = ARGV[i + 1], ARGV[i + 2]
  local code, number, word = start(ARGV[i], said, ARGV[i + 3])
  answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = code, number, word
end
note_lost(lost)
notify(events, settle_operations(ended))
keep_run()
return answer
