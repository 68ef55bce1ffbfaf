-- Settles executions as lost, each only where the claim that is proved gone is the open one.
-- KEYS run_keys
-- ARGV channels: prefix of the run's channels
-- ARGV (execution_id worker_id incarnation start proof)...: at most 100: the claim; why it is known to be gone, escaped
-- RETURNS lost: a code for each
-- EACH lost: settled by this
-- EACH changed: not told, settled already, or of another claim; nothing was written
-- INCLUDE clock pages statuses counts lifetime executions operations acks lost
local events, ended, noted = {}, {}, {}

local function lose(execution_id, claim)
  local e = read_execution(execution_id)
  local slot = redis.call('HGET', workers_key, '=' .. claim.worker_id)
  if not e or not slot or not holds(e, slot, claim.incarnation, claim.start) or not is_unsettled(execution_id) then
    return 'changed'
  end
  lose_claim(execution_id, e, claim.proof)
  ended[#ended + 1] = execution_id
  noted[#noted + 1] = execution_id .. ' start ' .. claim.start .. ' of ' .. claim.worker_id .. ': ' .. claim.proof
  events[#events + 1] = event_of(execution_id, 'lost')
  return 'lost'
end

local answer = { 'lost' }
for i = first_execution_id, #ARGV, 5 do
  answer[#answer + 1] = lose(ARGV[i],
    { worker_id = ARGV[i + 1], incarnation = ARGV[i + 2], start = ARGV[i + 3], proof = ARGV[i + 4] })
end
note_lost(noted)
notify(events, settle_operations(ended))
keep_run()
return answer
