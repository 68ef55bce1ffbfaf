-- Starts (or restarts) a walk: clears dirty and sets the phase back, before anything is read.
-- KEYS run_keys
-- ARGV cancel_id: the operation
-- ARGV fence: number of the driver's lease
-- RETURNS walking: operation as JSON
-- RETURNS fenced: a newer driver has the operation
-- RETURNS gone: there is no such operation
-- INCLUDE clock pages counts lifetime operations driver
local operation, refusal = driven_operation()
if refusal then
  return { refusal }
end
operation.dirty, operation.phase = '0', 'walking'
save_operation(cancel_id, operation)
keep_run()
return { 'walking', cjson.encode(operation) }
