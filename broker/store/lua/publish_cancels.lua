-- Decides, marks and tells a chunk of executions, in the order given. One code and status for each.
-- KEYS run_keys
-- ARGV run_id: id in the hash tag
-- ARGV channels: prefix of the run's channels
-- ARGV cancel_id: the operation
-- ARGV fence: number of the driver's lease
-- ARGV execution_id...: at most 100
-- RETURNS published: then for each execution its code, the status before, and the cancel id of its intent
-- RETURNS dirty: the tree has changed above what is walked; walk again; nothing was written
-- RETURNS fenced: a newer driver has the operation; nothing was written
-- RETURNS gone: there is no such operation
-- EACH told: message published now
-- EACH held: it has ended by its record, but its claim is open, or it was seen to start since: message published now
-- EACH never_started: settled by the cancel itself; message published now
-- EACH adopted: it has an intent already
-- EACH terminal: it has ended
-- EACH unknown: no such execution
-- INCLUDE clock pages statuses counts lifetime executions operations driver acks tell
local operation, refusal = driven_operation()
if refusal then
  return { refusal }
end
if operation.dirty == '1' then
  return { 'dirty' }
end
local SOURCE = { run = 'cancel_tree', subtree = 'cancel_subtree', execution = 'cancel_api' }
local message = new_message(cancel_id, operation, SOURCE[operation.scope], '1', '0')
local answer = { 'published' }

local function decide(execution_id)
  local e = read_execution(execution_id)
  if not e then
    return 'unknown', '', ''
  end
  local before = e.status
  local intent = get_field(intents_key, execution_id)
  if intent then
    return 'adopted', before, string.match(intent, '^[^|]*')
  end
  if is_terminal(before) and not has_open_claim(e) and not is_seen_to_run(e) then
    if get_field(acks_key, execution_id) then -- said again after a data loss, before the cancel was
      save_intent(execution_id, e, cancel_id, now_us, '1', '0')
      return 'adopted', before, cancel_id
    end
    return 'terminal', before, ''
  end
  if was_never_started(e) then
    never_start(execution_id, e, cancel_id)
    publish_cancel(execution_id, e, message, now_us)
    return 'never_started', before, cancel_id
  end
  tell(execution_id, e, message)
  return is_terminal(before) and 'held' or 'told', before, cancel_id
end

local ids = ids_from(first_execution_id, 1)
expect(executions_key, ids)
expect(intents_key, ids)
local told = false
for i = first_execution_id, #ARGV do
  local code, before, id = decide(ARGV[i])
  told = told or id == cancel_id
  answer[#answer + 1] = code
  answer[#answer + 1] = before
  answer[#answer + 1] = id
end
if told then
  redis.call('HINCRBY', run_key, 'epoch', 1)
end
keep_run()
return answer
