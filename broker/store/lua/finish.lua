-- The holder's ends of executions. On a cancelled one it is the settling ack.
-- KEYS run_keys
-- ARGV run_id: id in the hash tag
-- ARGV channels: prefix of the run's channels
-- ARGV worker_id: who says so
-- ARGV incarnation: of that process
-- ARGV (execution_id start status disposition detail)...: at most 100: number of the claim that ends; the outcome as reported (queued gives the claim back); stopped, killed or ended_itself; free text
-- RETURNS finished: then a code for each
-- EACH ended: no cancel stood against it
-- EACH released: claim given back, the execution is queued again
-- EACH settled: it was cancelled; this was its settling ack, or stands instead of lost
-- EACH repeat: this end is known already
-- EACH late: another claim has replaced this one; logged, not applied
-- EACH not_found: no such execution
-- INCLUDE clock pages statuses counts lifetime executions operations cover acks tell
local slot = worker_slot(worker_id)
local events, ended = {}, {}

local function release_claim(execution_id, e)
  e.slot, e.incarnation = '', ''
  save_execution(execution_id, e)
end

local function settle_with(execution_id, e, said, intent)
  local received_us = save_end(execution_id, slot, said)
  set_settled(execution_id)
  release_claim(execution_id, e)
  count_end(received_us, e.agent_node, said.disposition, intent)
  ended[#ended + 1] = execution_id
  events[#events + 1] = event_of(execution_id, said.disposition)
  return 'settled'
end

-- A cancel that is asserted again after a data loss: the intent for which it stopped may be what was lost.
local function may_have_been_told(id)
  local operation = read_operation(id)
  return operation ~= nil and now < tonumber(operation.settle_after_us or '0')
end

-- Before the walk came by: a parent that fails because its child was cancelled did not fail.
local function end_under_gate(execution_id, e, said, id)
  save_intent(execution_id, e, id, now_us, '1', '0')
  redis.call('HINCRBY', run_key, 'epoch', 1)
  set_status(e, 'cancelled')
  if not may_have_been_told(id) then
    said.disposition = 'ended_itself'
  end
  return settle_with(execution_id, e, said, get_field(intents_key, execution_id))
end

local function end_claim(execution_id, e, said)
  local intent = get_field(intents_key, execution_id)
  if intent then
    return settle_with(execution_id, e, said, intent)
  end
  local word = canonical(said.status)
  -- It ended because of a cancel that this server has lost: kept until the cancel is asserted again.
  if is_terminal(word) and (said.disposition == 'stopped' or said.disposition == 'killed') then
    save_end(execution_id, slot, said)
  end
  if not is_terminal(e.status) then
    local covering = word ~= 'succeeded' and covering_cancels(execution_id, e.parent) or {}
    if #covering > 0 then
      return end_under_gate(execution_id, e, said, covering[1])
    end
    set_status(e, said.status)
  elseif word ~= 'queued' then
    mark_end(e, '')
  end
  release_claim(execution_id, e)
  return word == 'queued' and 'released' or 'ended'
end

local function finish(execution_id, said)
  local e = read_execution(execution_id)
  if not e then
    return 'not_found'
  end
  if holds(e, slot, incarnation, said.start) then
    return end_claim(execution_id, e, said)
  end
  if was_lost(e, read_ack(execution_id), slot, said.start) then
    audit('ghost', '', execution_id .. ' start ' .. said.start .. ' of ' .. worker_id .. ' was lost: ' .. said.disposition)
    return settle_with(execution_id, e, said, get_field(intents_key, execution_id))
  end
  if not has_open_claim(e) and e.start == said.start then
    return 'repeat'
  end
  audit('late_end', redis.call('HGET', gates_key, '*') or '',
    execution_id .. ' start ' .. said.start .. ' ' .. said.status)
  return 'late'
end

local ids = ids_from(first_execution_id, 5)
expect(executions_key, ids)
expect(intents_key, ids)
expect(acks_key, ids)
local answer, said = { 'finished' }, {}
for i = first_execution_id, #ARGV, 5 do
  said.start, said.status, said.disposition, said.detail = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  answer[#answer + 1] = finish(ARGV[i], said)
end
notify(events, settle_operations(ended))
keep_run()
return answer
