-- The holder's end of an execution. On a cancelled one it is the settling ack.
-- KEYS run_keys
-- ARGV run_id: id in the hash tag
-- ARGV channels: prefix of the run's channels
-- ARGV execution_id: what ended
-- ARGV worker_id: who says so
-- ARGV incarnation: of that process
-- ARGV start: number of the claim that ends
-- ARGV status: the outcome as reported; queued gives the claim back
-- ARGV disposition: stopped, killed or ended_itself: how far the cancel had to do with it
-- ARGV detail: free text, empty for none
-- RETURNS ended: no cancel stood against it
-- RETURNS released: claim given back, the execution is queued again
-- RETURNS settled: it was cancelled; this was its settling ack
-- RETURNS repeat: this end is known already
-- RETURNS late: start number of the claim that replaced this one; logged, not applied
-- RETURNS not_found: no such execution
-- INCLUDE clock statuses executions lifetime operations cover tell acks
local e = read_execution(execution_id)
if not e then
  return { 'not_found' }
end
local slot = worker_slot(worker_id)
if not holds(e, slot, incarnation, start) then
  if not has_open_claim(e) and e.start == start then
    return { 'repeat' }
  end
  audit('late_end', redis.call('HGET', gates_key, '*') or '', execution_id .. ' start ' .. start .. ' ' .. status)
  keep_run({ log_key, workers_key })
  return { 'late', e.start }
end

local function release_claim()
  e.slot, e.incarnation = '', ''
  save_execution(execution_id, e)
end

local function settle_with(reported, outcome)
  local ack = read_ack(execution_id)
  ack.disposition, ack.outcome, ack.start, ack.slot = reported, outcome, start, slot
  ack.settled_us, ack.detail = now_us, detail
  save_ack(execution_id, ack)
  redis.call('ZREM', unsettled_key, execution_id)
  release_claim()
  local settled = {}
  settle_operations(execution_id, settled)
  notify({ event_of(execution_id, reported) }, settled)
  return { 'settled' }
end

local function finish()
  if redis.call('HEXISTS', intents_key, execution_id) == 1 then
    return settle_with(disposition, status)
  end
  local word = canonical(status)
  local covering = not is_terminal(e.status) and word ~= 'succeeded' and covering_cancels(execution_id, e.parent) or {}
  if #covering > 0 then
    -- Before the walk came by: a parent that fails because its child was cancelled did not fail.
    save_intent(execution_id, e, covering[1], now_us, '1', '0', '')
    redis.call('HINCRBY', run_key, 'epoch', 1)
    set_status(e, 'cancelled')
    return settle_with('ended_itself', status)
  end
  if not is_terminal(e.status) then
    set_status(e, status)
  end
  release_claim()
  return { word == 'queued' and 'released' or 'ended' }
end

local answer = finish()
keep_run({ intents_key, acks_key, unsettled_key, log_key, workers_key })
return answer
