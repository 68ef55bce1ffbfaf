-- The operation that a driver script works on; or the code that says why this driver must not go on.
local function driven_operation()
  local operation = read_operation(cancel_id)
  if not operation then
    return nil, 'gone'
  end
  if operation.fence ~= fence then
    return nil, 'fenced'
  end
  return operation, nil
end
