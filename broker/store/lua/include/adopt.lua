-- Takes what is said of an execution into its record, under the gates that stand over it.

-- A new edge of the tree: every subtree operation above it has more to walk.
local function mark_dirty(ids, reopened)
  for _, id in ipairs(ids) do
    reopen_operation(id, 'late parent', true, reopened)
  end
end

local function note_missing_parent(parent)
  if parent ~= '' and not get_field(executions_key, parent) then
    redis.call('SADD', missing_key, parent)
    note_made(missing_key)
  end
end

-- Under a closed gate: what has yet to start never does, what is said to run is told at once.
local function record_under_gate(execution_id, e, covering, reopened)
  local id = covering[1]
  redis.call('HINCRBY', run_key, 'epoch', 1)
  count('refusals|register')
  if was_never_started(e) then
    never_start(execution_id, e, id)
    return 'run_cancelled'
  end
  tell(execution_id, e, new_message(id, read_operation(id) or FORGOTTEN, 'gate', '1', '0'))
  for _, covering_id in ipairs(covering) do
    reopen_operation(covering_id, 'registered as running', false, reopened)
  end
  return 'run_cancelled'
end

local function record_new(execution_id, said, reopened)
  local covering, too_deep = covering_cancels(execution_id, said.parent)
  if too_deep then
    return 'too_deep'
  end
  local e = new_execution(said.status, said.parent, said.agent_node, said.reasoner, said.started_us)
  if said.claim then
    said.claim(e)
  end
  e.stamp = said.stamp or ''
  save_execution(execution_id, e)
  note_missing_parent(said.parent)
  if redis.call('SREM', missing_key, execution_id) == 1 then
    mark_dirty((subtree_cancels(execution_id, said.parent)), reopened)
  end
  if #covering > 0 and not is_terminal(e.status) then
    return record_under_gate(execution_id, e, covering, reopened), e
  end
  return 'registered', e
end

local function record_known(execution_id, e, said, reopened)
  if said.parent ~= '' and e.parent ~= '' and said.parent ~= e.parent then
    return 'parent_conflict'
  end
  local learned = said.parent ~= '' and e.parent == ''
  if learned then
    local above, too_deep = subtree_cancels(execution_id, said.parent)
    if too_deep then
      return 'too_deep'
    end
    note_missing_parent(said.parent)
    mark_dirty(above, reopened)
    e.parent = said.parent
  end
  if e.agent_node == '' and said.agent_node ~= '' then
    e.agent_node, learned = said.agent_node, true
  end
  if fill_origin(e, said.reasoner, said.started_us) or learned then
    save_execution(execution_id, e)
  end
  if get_field(intents_key, execution_id) then
    return 'run_cancelled'
  end
  return 'registered'
end

-- The code, an EACH word of register.lua, and the record as it stands now.
local function record(execution_id, said, reopened)
  local e = read_execution(execution_id)
  if e then
    return record_known(execution_id, e, said, reopened), e
  end
  return record_new(execution_id, said, reopened)
end
