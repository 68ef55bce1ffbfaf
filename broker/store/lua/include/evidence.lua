-- Evidence that something goes on which was taken for settled: it is unsettled, and whatever covers it open again.
local function reopen_covering(execution_id, e, why, reopened)
  set_unsettled(execution_id)
  redis.call('HINCRBY', run_key, 'epoch', 1)
  local covering = covering_cancels(execution_id, e.parent)
  covering[#covering + 1] = redis.call('HGET', gates_key, '=' .. execution_id) or nil
  for _, id in ipairs(covering) do
    reopen_operation(id, why, false, reopened)
  end
end
