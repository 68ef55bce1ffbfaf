-- Tells a chunk of executions again that were told and are not settled: the cancel id stays, the attempt rises.
-- KEYS run_keys
-- ARGV run_id: id in the hash tag
-- ARGV channels: prefix of the run's channels
-- ARGV cancel_id: the operation that asks for it
-- ARGV fence: number of the driver's lease
-- ARGV force: 1 asks for the forced step
-- ARGV execution_id...: at most 100
-- RETURNS published: number of messages
-- RETURNS fenced: a newer driver has the operation; nothing was written
-- RETURNS gone: there is no such operation
-- INCLUDE clock pages statuses counts lifetime executions operations driver acks tell
local operation, refusal = driven_operation()
if refusal then
  return { refusal }
end
local SOURCE = { run = 'cancel_tree', subtree = 'cancel_subtree', execution = 'cancel_api' }

local function redeliver(execution_id)
  local raw = get_field(intents_key, execution_id)
  local e = raw and is_unsettled(execution_id) and read_execution(execution_id)
  if not e then
    return 0
  end
  local id, published_us, attempt, _, forced = string.match(raw, '^([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|')
  local first = read_operation(id) or operation
  attempt = string.format('%.0f', tonumber(attempt) + 1)
  local with_force = (force == '1' or forced == '1') and '1' or '0'
  publish_cancel(execution_id, e, new_message(id, first, SOURCE[first.scope], attempt, with_force), published_us)
  return 1
end

local ids = ids_from(first_execution_id, 1)
expect(executions_key, ids)
expect(intents_key, ids)
local published = 0
for i = first_execution_id, #ARGV do
  published = published + redeliver(ARGV[i])
end
if force == '1' and published > 0 then
  redis.call('HINCRBY', run_key, 'epoch', 1)
end
keep_run()
return { 'published', string.format('%.0f', published) }
