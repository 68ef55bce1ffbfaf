-- What workers say of executions they were told to stop. Durable, idempotent, ranked.
-- KEYS run_keys
-- ARGV channels: prefix of the run's channels
-- ARGV (execution_id worker_id incarnation start seq disposition outcome detail)...: at most 100
-- RETURNS acked: cancel ids to look at again, then a code for each
-- EACH applied: recorded
-- EACH reopened: it was lost, it was said, and here its holder speaks: it is stopping, and unsettled again
-- EACH repeat: nothing new: known, or of a lower rank or number
-- EACH late: of an older claim; logged, not applied
-- EACH not_cancelled: there is no intent for it
-- EACH not_found: no such execution
-- INCLUDE clock pages statuses counts lifetime executions operations cover acks evidence
local events, ended, reopened = {}, {}, {}

local function is_news(ack, rank, seq)
  local before = RANK[ack.disposition]
  return rank > before or (rank == 1 and before == 1 and tonumber(seq) > tonumber(ack.seq))
end

local function settle_claim(execution_id, e, ack)
  ack.settled_us = now_us
  e.slot, e.incarnation = '', ''
  save_execution(execution_id, e)
  set_settled(execution_id)
end

local function record(execution_id, e, ack, said, slot, published_us)
  local rank = RANK[said.disposition]
  ack.disposition, ack.seq, ack.start, ack.slot = said.disposition, said.seq, said.start, slot
  ack.detail = said.detail
  local is_first = ack.received_us == ''
  if is_first or rank == 2 then
    count_answer(rank == 1 and 'received' or is_first and 'both' or 'stopped', e.agent_node, said.disposition,
      published_us)
  end
  if is_first then
    ack.received_us = now_us
  end
  if rank == 2 then
    ack.outcome = said.outcome
    settle_claim(execution_id, e, ack)
    ended[#ended + 1] = execution_id
  end
  save_ack(execution_id, ack)
  events[#events + 1] = event_of(execution_id, said.disposition)
  return 'applied'
end

-- The proof of death was mistaken: an end is taken for what it says, any other word is a sign of life.
local function hear_the_lost(execution_id, e, ack, said, id, published_us)
  local is_end = RANK[said.disposition] == 2
  if not is_end and tonumber(said.seq) <= tonumber(ack.seq) then
    return 'repeat'
  end
  audit('ghost', id, execution_id .. ' start ' .. said.start .. ' of ' .. said.worker_id .. ' was lost: ' .. said.disposition)
  if is_end then
    return record(execution_id, e, ack, said, ack.slot, published_us)
  end
  e.slot, e.incarnation = ack.slot, said.incarnation
  save_execution(execution_id, e)
  ack.settled_us = ''
  reopen_covering(execution_id, e, 'alive after lost', reopened)
  record(execution_id, e, ack, said, ack.slot, published_us)
  return 'reopened'
end

local function apply(execution_id, said)
  local e = read_execution(execution_id)
  if not e then
    return 'not_found'
  end
  local intent = get_field(intents_key, execution_id)
  if not intent then
    return 'not_cancelled'
  end
  local id, published_us = string.match(intent, '^([^|]*)|([^|]*)')
  local slot = worker_slot(said.worker_id)
  local ack = read_ack(execution_id)
  if holds(e, slot, said.incarnation, said.start) then
    local news = is_news(ack, RANK[said.disposition], said.seq)
    return news and record(execution_id, e, ack, said, slot, published_us) or 'repeat'
  end
  if was_lost(e, ack, slot, said.start) then
    return hear_the_lost(execution_id, e, ack, said, id, published_us)
  end
  if ack.start == said.start and ack.slot == slot then
    return 'repeat'
  end
  audit('late_ack', '', execution_id .. ' start ' .. said.start .. ' ' .. said.disposition)
  return 'late'
end

local ids = ids_from(first_execution_id, 8)
expect(executions_key, ids)
expect(intents_key, ids)
expect(acks_key, ids)
local answer, said = { 'acked', reopened }, {}
for i = first_execution_id, #ARGV, 8 do
  said.worker_id, said.incarnation, said.start, said.seq = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  said.disposition, said.outcome, said.detail = ARGV[i + 5], ARGV[i + 6], ARGV[i + 7]
  answer[#answer + 1] = apply(ARGV[i], said)
end
notify(events, settle_operations(ended))
keep_run()
return answer
