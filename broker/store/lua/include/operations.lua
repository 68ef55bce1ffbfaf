-- Cancel operations: JSON whose values are all text, so that decoding and encoding it loses no stamp.
local function read_operation(id)
  local raw = redis.call('HGET', cancels_key, id)
  return raw and cjson.decode(raw) or nil
end

-- Stands in for an operation that has ended with its run, under a gate that has not.
local FORGOTTEN = { message = '"reason":null,"requested_by":null', deadline_us = now_us, scope = 'run' }

local function save_operation(id, operation)
  if redis.call('HSET', cancels_key, id, cjson.encode(operation)) == 1 then
    note_made(cancels_key)
  end
end

local function list_open(id)
  redis.call('SADD', open_cancels_key, id)
  note_made(open_cancels_key)
end

local function raise(operation, counter)
  operation[counter] = string.format('%.0f', tonumber(operation[counter]) + 1)
end

-- Who (empty: the broker itself) did what, when and why, in the run's capped log.
local function audit(event, id, detail, by, reason)
  count('events|' .. event)
  redis.call('XADD', log_key, 'MAXLEN', '~', '1000', '*', 'event', event, 'cancel_id', id, 'at_us', now_us,
    'detail', detail, 'by', by or '', 'reason', reason or '')
  note_made(log_key)
end

-- Something that the operation covers is not settled (any more): it must be looked at again. The caller
-- of the script sets its work list entry to now, which lies in another slot.
local function reopen_operation(id, why, dirty, reopened)
  local operation = read_operation(id)
  if not operation then
    return
  end
  if operation.state == 'settled' then
    operation.state, operation.settled_at_us = 'open', ''
    audit('reopened', id, why)
  end
  if dirty then
    operation.dirty = '1'
  end
  raise(operation, 'v')
  save_operation(id, operation)
  list_open(id)
  reopened[#reopened + 1] = id
end

-- DESIGN section 3: phase is published, not dirty, nothing unsettled in scope.
local function settle_operation(id, operation)
  operation.state, operation.settled_at_us = 'settled', now_us
  save_operation(id, operation)
  redis.call('SREM', open_cancels_key, id)
  local took_ms = math.max(0, math.floor((now - tonumber(operation.requested_at_us)) / 1000))
  audit('settled', id, (operation.walked or operation.scope) .. ', ' .. string.format('%.0f', took_ms) .. ' ms'
    .. ' after the request')
end

local function may_settle(operation)
  return operation.state == 'open' and operation.phase == 'published' and operation.dirty ~= '1'
    and now >= tonumber(operation.settle_after_us or '0')
end
