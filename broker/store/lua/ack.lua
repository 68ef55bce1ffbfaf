-- What workers say of executions they were told to stop. Durable, idempotent, ranked.
-- KEYS run_keys
-- ARGV channels: prefix of the run's channels
-- ARGV (execution_id worker_id incarnation start seq disposition outcome detail)...: at most 100
-- RETURNS acked: a code for each
-- EACH applied: recorded
-- EACH repeat: nothing new: known, or of a lower rank or number
-- EACH late: of an older claim; logged, not applied
-- EACH not_cancelled: there is no intent for it
-- EACH not_found: no such execution
-- INCLUDE clock statuses lifetime executions operations acks
local events, ended = {}, {}

local function is_news(ack, rank, seq)
  local before = RANK[ack.disposition]
  return rank > before or (rank == 1 and before == 1 and tonumber(seq) > tonumber(ack.seq))
end

local function settle_claim(execution_id, e, ack)
  ack.settled_us = now_us
  e.slot, e.incarnation = '', ''
  save_execution(execution_id, e)
  redis.call('ZREM', unsettled_key, execution_id)
end

local function apply(execution_id, said)
  local e = read_execution(execution_id)
  if not e then
    return 'not_found'
  end
  if redis.call('HEXISTS', intents_key, execution_id) == 0 then
    return 'not_cancelled'
  end
  local slot = worker_slot(said.worker_id)
  local ack = read_ack(execution_id)
  if not holds(e, slot, said.incarnation, said.start) then
    if ack.start == said.start and ack.slot == slot then
      return 'repeat'
    end
    audit('late_ack', '', execution_id .. ' start ' .. said.start .. ' ' .. said.disposition)
    return 'late'
  end
  local rank = RANK[said.disposition]
  if not is_news(ack, rank, said.seq) then
    return 'repeat'
  end
  ack.disposition, ack.seq, ack.start, ack.slot = said.disposition, said.seq, said.start, slot
  ack.detail = said.detail
  if ack.received_us == '' then
    ack.received_us = now_us
  end
  if rank == 2 then
    ack.outcome = said.outcome
    settle_claim(execution_id, e, ack)
  end
  save_ack(execution_id, ack)
  if rank == 2 then
    ended[#ended + 1] = execution_id
  end
  events[#events + 1] = event_of(execution_id, said.disposition)
  return 'applied'
end

local answer = { 'acked' }
for i = first_execution_id, #ARGV, 8 do
  answer[#answer + 1] = apply(ARGV[i], { worker_id = ARGV[i + 1], incarnation = ARGV[i + 2], start = ARGV[i + 3],
    seq = ARGV[i + 4], disposition = ARGV[i + 5], outcome = ARGV[i + 6], detail = ARGV[i + 7] })
end
notify(events, settle_operations(ended))
keep_run({ acks_key, workers_key, log_key })
return answer
