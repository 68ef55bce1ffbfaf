-- Which gates stand over an execution. Only a run that has a subtree gate pays for climbing its ancestors.
-- The run's own gate and the number of subtree gates are read once, before anything is written.
local MAX_LEVELS = 1000
local run_gates = redis.call('HMGET', gates_key, '*', '#subtrees')
local run_cancel, subtree_gates = run_gates[1], run_gates[2]

-- Cancel ids of the subtree gates on the execution and its known ancestors, nearest first; the second
-- value is true where the tree is too deep to tell.
local function subtree_cancels(execution_id, parent)
  local found = {}
  if not subtree_gates then
    return found, false
  end
  local seen, levels = {}, 0
  while execution_id ~= '' and not seen[execution_id] do
    if levels > MAX_LEVELS then
      return found, true
    end
    seen[execution_id], levels = true, levels + 1
    local id = redis.call('HGET', gates_key, execution_id)
    if id then
      found[#found + 1] = id
    end
    execution_id = parent
    local raw = execution_id ~= '' and get_field(executions_key, execution_id)
    parent = raw and string.match(raw, '^[^|]*|([^|]*)') or ''
  end
  return found, false
end

-- All cancel ids that cover the execution (the run's first), and whether the tree was too deep to tell.
local function covering_cancels(execution_id, parent)
  local found, too_deep = subtree_cancels(execution_id, parent)
  if run_cancel then
    table.insert(found, 1, run_cancel)
  end
  return found, too_deep and not run_cancel
end
