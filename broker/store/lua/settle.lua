-- Settles an operation if nothing in its scope is unsettled.
-- KEYS run_keys
-- ARGV channels: prefix of the run's channels
-- ARGV cancel_id: the operation
-- ARGV seen_v: for a subtree: its v, read before the caller found nothing unsettled below the target
-- RETURNS settled: now or before
-- RETURNS open: not yet
-- RETURNS changed: v has risen since; read again
-- RETURNS gone: there is no such operation
-- INCLUDE clock pages counts lifetime operations acks
local operation = read_operation(cancel_id)
if not operation then
  return { 'gone' }
end
if operation.state == 'settled' then
  return { 'settled' }
end
if not may_settle(operation) then
  return { 'open' }
end
if operation.scope == 'subtree' and operation.v ~= seen_v then
  return { 'changed' }
end
if operation.scope == 'run' and redis.call('ZCARD', unsettled_key) > 0 then
  return { 'open' }
end
if operation.scope == 'execution' and redis.call('ZSCORE', unsettled_key, operation.target) then
  return { 'open' }
end
settle_operation(cancel_id, operation)
notify({}, { cancel_id })
keep_run()
return { 'settled' }
