-- Records executions, or fills in what was unknown of them; looks at the gate in the same write.
-- KEYS run_keys
-- ARGV run_id: id in the hash tag
-- ARGV channels: prefix of the run's channels
-- ARGV (execution_id status parent agent_node reasoner started_us)...: at most 100; empty where unknown
-- RETURNS registered: codes of the executions, cancel ids of the operations to look at again
-- EACH registered: recorded, or known already
-- EACH run_cancelled: recorded as cancelled, never to be started
-- EACH parent_conflict: known under another parent; nothing was changed
-- EACH too_deep: its ancestors cannot be checked; nothing was changed
-- INCLUDE clock pages statuses counts lifetime executions operations cover acks tell adopt
local codes, reopened, said = {}, {}, {}
expect(executions_key, ids_from(first_execution_id, 6))
for i = first_execution_id, #ARGV, 6 do
  said.status, said.parent, said.agent_node = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  said.reasoner, said.started_us = ARGV[i + 4], ARGV[i + 5]
  codes[#codes + 1] = (record(ARGV[i], said, reopened))
end
keep_run()
return { 'registered', codes, reopened }
