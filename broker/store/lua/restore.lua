-- A worker says what it holds, or held, to a server that may have lost it: its claims are written again.
-- KEYS run_keys
-- ARGV run_id: id in the hash tag
-- ARGV channels: prefix of the run's channels
-- ARGV worker_id: the process that holds them
-- ARGV incarnation: of that process
-- ARGV agent_node: group of the worker, empty where unknown
-- ARGV (execution_id parent reasoner start)...: at most 100; start is the number of the claim
-- RETURNS restored: cancel ids to look at again, then a code for each
-- EACH held: nothing of it was lost
-- EACH ended: its end is known
-- EACH restored: the claim stands again, and what cancels it is told again
-- EACH superseded: another claim has replaced it
-- EACH refused: its place in the tree cannot be checked, or is another one now
-- INCLUDE clock pages statuses counts lifetime executions operations cover acks tell adopt
local slot = worker_slot(worker_id)
local reopened = {}

-- Where it stands, or what stands against it; nil where the claim is lost: what was kept is older than it.
local function known(e, claim)
  if tonumber(e.start) < tonumber(claim) then
    return nil
  end
  if has_open_claim(e) then
    return holds(e, slot, incarnation, claim) and 'held' or 'superseded'
  end
  return e.start == claim and 'ended' or 'superseded'
end

-- It was settled as one that nobody holds, or was told before its claim was lost: it is told like a running one.
local function tell_again(execution_id, e)
  local intent = get_field(intents_key, execution_id)
  if not intent then
    return
  end
  local id = string.match(intent, '^[^|]*')
  forget_ack(execution_id)
  set_unsettled(execution_id)
  publish_cancel(execution_id, e, new_message(id, read_operation(id) or FORGOTTEN, 'gate', '2', '0'), now_us)
  redis.call('HINCRBY', run_key, 'epoch', 1)
  local covering = covering_cancels(execution_id, e.parent)
  covering[#covering + 1] = redis.call('HGET', gates_key, '=' .. execution_id) or nil
  for _, covering_id in ipairs(covering) do
    reopen_operation(covering_id, 'held by a worker', false, reopened)
  end
end

local function restore(execution_id, said, claim)
  local e = read_execution(execution_id)
  local code = e and known(e, claim)
  if code then
    return code
  end
  local existed = e ~= nil
  code, e = record(execution_id, said, reopened)
  if code == 'parent_conflict' or code == 'too_deep' then
    return 'refused'
  end
  if not is_terminal(e.status) then
    set_status(e, 'running')
  elseif is_seen_to_run(e) then
    mark_end(e, ENDED)
  end
  if has_open_claim(e) then
    redis.call('HINCRBY', run_key, 'epoch', 1)
  end
  e.slot, e.incarnation, e.start = slot, incarnation, claim
  start_now(e)
  save_execution(execution_id, e)
  if existed then
    tell_again(execution_id, e)
  end
  return 'restored'
end

local answer = { 'restored', reopened }
for i = first_execution_id, #ARGV, 4 do
  local said = { status = 'running', parent = ARGV[i + 1], agent_node = agent_node, reasoner = ARGV[i + 2],
    started_us = '' }
  answer[#answer + 1] = restore(ARGV[i], said, ARGV[i + 3])
end
keep_run()
return answer
