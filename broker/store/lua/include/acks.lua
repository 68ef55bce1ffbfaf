-- What really happened: ranked, so that no late or repeated word can take a settled execution back.
local RANK = { asked = 0, received = 1, deferred = 1, refused = 1, never_started = 2, stopped = 2, killed = 2,
  ended_itself = 2, lost = 2 }

local function read_ack(execution_id)
  local raw = get_field(acks_key, execution_id)
  if not raw then
    return { disposition = 'asked', seq = '0', start = '0', slot = '', outcome = '', received_us = '',
      settled_us = '', detail = '' }
  end
  local disposition, seq, start, slot, outcome, received_us, settled_us, detail = string.match(
    raw, '^([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)$')
  return { disposition = disposition, seq = seq, start = start, slot = slot, outcome = outcome,
    received_us = received_us, settled_us = settled_us, detail = detail }
end

local function save_ack(execution_id, ack)
  set_field(acks_key, execution_id, ack.disposition .. '|' .. ack.seq .. '|' .. ack.start .. '|' .. ack.slot .. '|'
    .. ack.outcome .. '|' .. ack.received_us .. '|' .. ack.settled_us .. '|' .. ack.detail)
end

-- An end as its holder said it, in place of what was heard before; answers when that was, empty for never.
local function save_end(execution_id, slot, said)
  local raw = get_field(acks_key, execution_id)
  local seq, received_us = '0', ''
  if raw then
    seq, received_us = string.match(raw, '^[^|]*|([^|]*)|[^|]*|[^|]*|[^|]*|([^|]*)')
  end
  set_field(acks_key, execution_id, said.disposition .. '|' .. seq .. '|' .. said.start .. '|' .. slot .. '|'
    .. said.status .. '|' .. received_us .. '|' .. now_us .. '|' .. said.detail)
  return received_us
end

-- An end counts as heard, too, where nothing was heard before it. What the script that wrote the intent has settled
-- itself has no lag, and an intent that went with a data loss no time.
local function count_end(received_us, agent_node, disposition, intent)
  local published_us = intent and string.match(intent, '^[^|]*|([^|]*)')
  if published_us == now_us then
    count('settled_without_lag|' .. disposition)
  elseif published_us then
    count_answer(received_us == '' and 'both' or 'stopped', agent_node, disposition, published_us)
  end
end

local function forget_ack(execution_id)
  forget_field(acks_key, execution_id)
end

local slots = {}
local function worker_slot(worker_id)
  local slot = slots[worker_id] or redis.call('HGET', workers_key, '=' .. worker_id)
  if not slot then
    slot = string.format('%.0f', redis.call('HLEN', workers_key) / 2)
    redis.call('HSET', workers_key, slot, worker_id, '=' .. worker_id, slot)
    note_made(workers_key)
  end
  slots[worker_id] = slot
  return slot
end

-- Who speaks by event may leave the incarnation out (0): the start number names the claim.
local function holds(e, slot, incarnation, start)
  return e.slot == slot and (e.incarnation == incarnation or incarnation == '0') and e.start == start
end

-- Whether this is the claim that was closed as lost, and none has come since.
local function was_lost(e, ack, slot, start)
  return ack.disposition == 'lost' and e.slot == '' and ack.slot == slot and ack.start == start
    and e.start == start
end

-- The operations whose target is one of these. A run whose own gate is all there is has none.
local function narrow_cancels(ids)
  if #ids > 1 and redis.call('HLEN', gates_key) == 1 and redis.call('HEXISTS', gates_key, '*') == 1 then
    return {}
  end
  local fields, found = {}, {}
  for i, execution_id in ipairs(ids) do
    fields[i] = '=' .. execution_id
  end
  for _, id in ipairs(#ids > 0 and redis.call('HMGET', gates_key, unpack(fields)) or {}) do
    found[#found + 1] = id or nil
  end
  return found
end

-- After executions have ended: every open operation that has told all it covers and waits for nothing is
-- settled, too. Answers their cancel ids. A narrow one does not wait for the others of its run.
local function settle_operations(ended)
  local candidates, settled = {}, {}
  write_out()
  if #ended > 0 and redis.call('ZCARD', unsettled_key) == 0 then
    candidates = redis.call('SMEMBERS', open_cancels_key)
  else
    candidates = narrow_cancels(ended)
  end
  for _, id in ipairs(candidates) do
    local operation = read_operation(id)
    if operation and may_settle(operation) then
      settle_operation(id, operation)
      settled[#settled + 1] = id
    end
  end
  return settled
end

-- One notification a script call: who said what, and which operations are settled by it.
local function notify(events, settled)
  if #events == 0 and #settled == 0 then
    return
  end
  redis.call('PUBLISH', channels .. 'ack-events', '{"v":1,"type":"acks","at_us":"' .. now_us .. '","acks":['
    .. table.concat(events, ',') .. '],"settled":[' .. (#settled > 0 and '"' .. table.concat(settled, '","') .. '"' or '')
    .. ']}')
end

local function event_of(execution_id, disposition)
  return '["' .. execution_id .. '","' .. disposition .. '"]'
end
