-- The walk has told everything it found: the operation may settle from now on.
-- KEYS run_keys
-- ARGV cancel_id: the operation
-- ARGV fence: number of the driver's lease
-- ARGV summary: text for the audit log
-- RETURNS published: nothing became dirty meanwhile
-- RETURNS dirty: walk again
-- RETURNS fenced: a newer driver has the operation
-- RETURNS gone: there is no such operation
-- INCLUDE clock pages counts lifetime operations driver
local operation, refusal = driven_operation()
if refusal then
  return { refusal }
end
if operation.dirty == '1' then
  return { 'dirty' }
end
operation.phase, operation.walked = 'published', summary
save_operation(cancel_id, operation)
audit('published', cancel_id, summary)
keep_run()
return { 'published' }
