-- Notes, once, that an operation is overdue, that it is told no more, or that its settlement was summed up.
-- The first two go into the audit; the last stands for one settlement, and may come again after a reopening.
-- KEYS run_keys
-- ARGV cancel_id: the operation
-- ARGV fence: number of the driver's lease
-- ARGV event: overdue, given_up or summed_up
-- ARGV detail: text for the audit log
-- RETURNS noted: by this call
-- RETURNS known: it was noted before
-- RETURNS open: it is not settled (any more): there is nothing to sum up
-- RETURNS fenced: a newer driver has the operation; nothing was written
-- RETURNS gone: there is no such operation
-- INCLUDE clock pages counts lifetime operations driver
local operation, refusal = driven_operation()
if refusal then
  return { refusal }
end
local since = now_us
if event == 'summed_up' then
  if operation.state ~= 'settled' then
    return { 'open' }
  end
  since = operation.settled_at_us
end
if operation[event] == since or (operation[event] and event ~= 'summed_up') then
  return { 'known' }
end
operation[event] = since
save_operation(cancel_id, operation)
if event ~= 'summed_up' then
  audit(event, cancel_id, detail)
end
keep_run()
return { 'noted' }
