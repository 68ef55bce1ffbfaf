-- Writes beside the operation that it is there: WAIT behind it, on the same connection, covers all before it.
-- KEYS run_keys
-- ARGV cancel_id: the operation
-- RETURNS confirmed: written
-- RETURNS gone: there is no such operation
-- INCLUDE clock pages counts lifetime operations
local operation = read_operation(cancel_id)
if not operation then
  return { 'gone' }
end
operation.confirmed_us = now_us
save_operation(cancel_id, operation)
keep_run()
return { 'confirmed' }
