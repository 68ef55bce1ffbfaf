-- Makes a cancel operation durable and, for a run or a subtree, closes the gate in the same write.
-- KEYS run_keys
-- ARGV run_id: id in the hash tag
-- ARGV channels: prefix of the run's channels
-- ARGV cancel_id: id for the operation, used unless there is one for this scope and target already
-- ARGV scope: run, subtree or execution
-- ARGV target: execution id, empty for a run
-- ARGV terms: JSON object, all values text: order, reason, requested_by, message, deadline_us, give_up_us, force_after_us, grace_us; requested_at_us and settle_after_us where it is asserted again after a data loss, with the terms of then
-- ARGV client_key: idempotency key, empty where none was given
-- ARGV listed_at_us: answer of list_operation
-- ARGV allow_unknown: 1 where a gate may be closed on what is not known
-- ARGV driver: name of the process that drives the operation
-- ARGV lease_us: how long it alone may drive it
-- RETURNS opened: cancel id, operation as JSON
-- RETURNS repeat: cancel id, operation as JSON: there was one already, with its own deadline
-- RETURNS not_found: nothing was written
-- RETURNS terminal: status of the execution; nothing was written
-- RETURNS key_reused: cancel id that the idempotency key belongs to; nothing was written
-- RETURNS listing_expired: more than 30 s since it was listed; nothing was written
-- RETURNS too_deep: the ancestors of the execution cannot be checked; nothing was written
-- INCLUDE clock pages statuses counts lifetime executions operations cover acks tell
local LISTING_US = 30000000
local GATE_FIELD = { run = '*', subtree = target, execution = '=' .. target }
local gate_field = GATE_FIELD[scope]
local asked = cjson.decode(terms)
local asserted = asked.requested_at_us ~= ''

if now - tonumber(listed_at_us) > LISTING_US then
  return { 'listing_expired' }
end

-- A repeat keeps everything but this: the forced step comes at the earlier of the two times.
local function escalate(id, operation)
  if asked.force_after_us == '' then
    return
  end
  local force_after = now + tonumber(asked.force_after_us) - tonumber(operation.requested_at_us)
  if operation.force_after_us == '' or force_after < tonumber(operation.force_after_us) then
    operation.force_after_us = string.format('%.0f', force_after)
    save_operation(id, operation)
    audit('escalated', id, 'force after ' .. string.format('%.0f', force_after) .. ' us', asked.requested_by, asked.reason)
  end
end

local existing = redis.call('HGET', gates_key, gate_field)

-- It is still there, but what was written after it may be lost: it is walked again, whoever drives it.
local mine = asserted and read_operation(cancel_id)
if mine then
  if mine.state == 'open' then
    mine.dirty = '1'
    raise(mine, 'v')
    save_operation(cancel_id, mine)
  end
  keep_run()
  return { 'repeat', cancel_id, cjson.encode(mine) }
end

local keyed = client_key ~= '' and redis.call('HGET', idempotency_key, client_key)
if not asserted and keyed and keyed ~= existing then
  return { 'key_reused', keyed }
end
local operation = not asserted and existing and read_operation(existing)
if operation then
  if client_key ~= '' then
    redis.call('HSET', idempotency_key, client_key, existing)
    note_made(idempotency_key)
  end
  escalate(existing, operation)
  keep_run()
  return { 'repeat', existing, cjson.encode(operation) }
end

local e = scope ~= 'run' and read_execution(target) or nil
local known = e or (scope == 'run' and redis.call('HLEN', executions_key) > 0)
if not known and not asserted and allow_unknown ~= '1' then
  return { 'not_found' }
end
if scope == 'execution' and e and not asserted then
  if is_terminal(e.status) then
    return { 'terminal', e.status }
  end
  local covering, too_deep = covering_cancels(target, e.parent)
  if too_deep then
    return { 'too_deep' }
  end
  if #covering > 0 then
    return { 'terminal', 'cancelled' }
  end
end

local id = not asserted and existing or cancel_id
local since = asserted and tonumber(asked.requested_at_us) or now
operation = asked
operation.scope, operation.target = scope, target
operation.requested_at_us = string.format('%.0f', since)
operation.settle_after_us = string.format('%.0f', now + tonumber(asked.settle_after_us))
operation.deadline_us = string.format('%.0f', since + tonumber(operation.deadline_us))
operation.give_up_us = string.format('%.0f', since + tonumber(operation.give_up_us))
operation.phase, operation.state, operation.settled_at_us = 'walking', 'open', ''
-- A driver from before the loss must not pass for one of now: its fence number is a small one.
operation.dirty, operation.v, operation.fence = '0', '0', asserted and now_us or '1'
operation.driver, operation.lease_until_us = driver, string.format('%.0f', now + tonumber(lease_us))
save_operation(id, operation)
if redis.call('HSETNX', gates_key, gate_field, id) == 1 and scope == 'subtree' then
  redis.call('HINCRBY', gates_key, '#subtrees', 1)
end
note_made(gates_key)
list_open(id)
redis.call('HINCRBY', run_key, 'epoch', 1)
if client_key ~= '' then
  redis.call('HSETNX', idempotency_key, client_key, id)
  note_made(idempotency_key)
end
audit(asserted and 'asserted_again' or 'requested', id, target == '' and scope or scope .. ' ' .. target,
  asked.requested_by, asked.reason)
if scope ~= 'run' and not e then
  if asserted then -- it was known, and may run: the cancel itself must not settle it
    tell(target, new_execution('unknown', '', '', '', ''), new_message(id, operation, 'gate', '1', '0'))
  else
    never_start(target, new_execution('pending', '', '', '', ''), id)
  end
end
keep_run()
return { 'opened', id, cjson.encode(operation) }
