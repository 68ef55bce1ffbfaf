-- Takes or renews the sole right to drive an operation. The fence number rises with every new driver.
-- KEYS run_keys
-- ARGV cancel_id: the operation
-- ARGV driver: name of the process that asks
-- ARGV fence: number it holds already, empty where it takes over
-- ARGV lease_us: how long; 0 gives the lease back
-- RETURNS leased: fence number, operation as JSON
-- RETURNS busy: another process drives it
-- RETURNS gone: there is no such operation
-- INCLUDE clock pages counts lifetime operations
local operation = read_operation(cancel_id)
if not operation then
  return { 'gone' }
end
local mine = operation.driver == driver and operation.fence == fence
if not mine and (fence ~= '' or tonumber(operation.lease_until_us) > now) then
  return { 'busy' }
end
if not mine then
  raise(operation, 'fence')
  operation.driver = driver
  if operation.state == 'open' and (operation.phase == 'walking' or operation.dirty == '1') then
    audit('takeover', cancel_id, 'fence ' .. operation.fence, driver)
  end
end
operation.lease_until_us = string.format('%.0f', now + tonumber(lease_us))
save_operation(cancel_id, operation)
keep_run()
return { 'leased', operation.fence, cjson.encode(operation) }
