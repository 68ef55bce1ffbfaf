-- Notes in the audit, once, that an operation is overdue or that it is told no more.
-- KEYS run_keys
-- ARGV cancel_id: the operation
-- ARGV fence: number of the driver's lease
-- ARGV event: overdue or given_up
-- ARGV detail: text for the audit log
-- RETURNS noted: now or before
-- RETURNS fenced: a newer driver has the operation; nothing was written
-- RETURNS gone: there is no such operation
-- INCLUDE clock lifetime operations driver
local operation, refusal = driven_operation()
if refusal then
  return { refusal }
end
if not operation[event] then
  operation[event] = now_us
  save_operation(cancel_id, operation)
  audit(event, cancel_id, detail)
  keep_run({ log_key })
end
return { 'noted' }
