-- What events say of executions, in the order given: by their holder (worker_id and start), or by someone
-- who holds nothing. An end is proved only by the holder; evidence of a start reopens.
-- KEYS run_keys
-- ARGV run_id: id in the hash tag
-- ARGV channels: prefix of the run's channels
-- ARGV (execution_id status parent agent_node reasoner started_us stamp worker_id incarnation start)...: at most 100; recorded where not known; empty where unknown; stamp is occurred_us,ms,number of the event; start only where worker_id is given
-- RETURNS reported: cancel ids of the operations to look at again, then a code for each
-- EACH changed: the status is what was reported; an open claim of someone else stays open
-- EACH kept: it is known, older than what is known, or the execution has ended; at most gaps were filled
-- EACH started_again: it has ended, though no holder said so, and runs: a cancel that comes tells it
-- EACH claimed: a claim is recorded, the execution runs
-- EACH ended: its holder has ended it, no cancel stood against it
-- EACH released: its holder has given the claim back
-- EACH settled: it was cancelled, and this was its end
-- EACH cancelled: it met a closed gate: never to be started, or told at once
-- EACH reopened: its start was not known, and it was settled or ended: told again
-- EACH cancel_wanted: someone who does not hold it says that it was cancelled: it is to be cancelled; gaps were filled
-- EACH late: of an older claim; logged, not applied
-- EACH parent_conflict: known under another parent; the rest was applied
-- EACH too_deep: its ancestors cannot be checked; nothing was changed
-- INCLUDE clock pages statuses counts lifetime executions operations cover acks evidence tell adopt
local reopened, events, ended = {}, {}, {}

-- When it was so. A registration has no stamp: older than every event but an execution's creation.
local function is_news(e, said)
  if e.stamp == '' then
    return said.occurred > 0
  end
  local occurred, ms, number = string.match(stamp_of(e), '^(%d+),?(%d*),?(%d*)[?+]?$')
  occurred, ms, number = tonumber(occurred), tonumber(ms) or 0, tonumber(number) or 0
  if said.occurred ~= occurred then
    return said.occurred > occurred
  end
  return said.ms > ms or (said.ms == ms and said.number > number)
end

local function change_status(execution_id, e, said)
  set_status(e, said.status)
  e.stamp = said.stamp
  save_execution(execution_id, e)
end

-- How the one who speaks stands to the claim: holder, newer (a claim not known yet), ended, late or nobody.
local STANDING = { nobody = 'nobody', holder = 'holder', newer = 'newer', ended = 'ended', late = 'late' }
local function standing(execution_id, e, said)
  if said.worker_id == '' then
    return STANDING.nobody
  end
  said.slot = worker_slot(said.worker_id)
  if tonumber(said.start) > tonumber(e.start) then
    return STANDING.newer
  end
  if holds(e, said.slot, said.incarnation, said.start) then
    return STANDING.holder
  end
  if e.start ~= said.start or has_open_claim(e) then
    return STANDING.late
  end
  local lost = was_lost(e, read_ack(execution_id), said.slot, said.start)
  return lost and STANDING.holder or STANDING.ended
end

local function take_claim(e, said)
  if has_open_claim(e) then
    redis.call('HINCRBY', run_key, 'epoch', 1)
  end
  e.slot, e.incarnation, e.start = said.slot, said.incarnation, said.start
  if is_seen_to_run(e) then
    mark_end(e, ENDED)
  end
end

-- Whoever runs it holds no claim, so only this shows it, until a newer end is said or a claim is.
local function see_start(execution_id, e, said)
  e.stamp = said.stamp .. STARTED
  save_execution(execution_id, e)
end

-- Evidence of a start: told like a running one, and whatever covers it is open again.
local function tell_again(execution_id, e, intent)
  local id = string.match(intent, '^[^|]*')
  forget_ack(execution_id)
  reopen_covering(execution_id, e, 'seen to start', reopened)
  publish_cancel(execution_id, e, new_message(id, read_operation(id) or FORGOTTEN, 'gate', '2', '0'), now_us)
  return 'reopened'
end

-- It runs under a closed gate: told at once, before any walk comes by.
local function tell_at_gate(execution_id, e, covering)
  local id = covering[1]
  tell(execution_id, e, new_message(id, read_operation(id) or FORGOTTEN, 'gate', '1', '0'))
  reopen_covering(execution_id, e, 'seen to start', reopened)
end

-- It was cancelled and this is its end; what it came to is kept, and the claim is over.
local function settle_with(execution_id, e, said, disposition, intent)
  local ack = read_ack(execution_id)
  ack.disposition, ack.outcome, ack.settled_us = disposition, said.status, now_us
  if said.worker_id ~= '' then
    ack.start, ack.slot = said.start, said.slot
  end
  save_ack(execution_id, ack)
  e.slot, e.incarnation, e.stamp = '', '', said.stamp
  save_execution(execution_id, e)
  set_settled(execution_id)
  count_end(ack.received_us, e.agent_node, disposition, intent)
  ended[#ended + 1] = execution_id
  events[#events + 1] = event_of(execution_id, disposition)
  return 'settled'
end

-- An end that no walk has told. A parent that fails because its child was cancelled did not fail (trap T37).
local function gates_over_end(execution_id, e, said)
  return said.word ~= 'succeeded' and covering_cancels(execution_id, e.parent) or {}
end

local function end_at_gate(execution_id, e, said, id)
  save_intent(execution_id, e, id, now_us, '1', '0')
  redis.call('HINCRBY', run_key, 'epoch', 1)
  set_status(e, 'cancelled')
  return settle_with(execution_id, e, said, 'ended_itself', get_field(intents_key, execution_id))
end

local function end_by_holder(execution_id, e, said, intent)
  if said.standing == 'newer' then
    take_claim(e, said)
  end
  if intent then
    local disposition = said.word == 'cancelled' and 'stopped' or 'ended_itself'
    return settle_with(execution_id, e, said, disposition, intent)
  end
  if not is_terminal(e.status) then
    local gates = gates_over_end(execution_id, e, said)
    if #gates > 0 then
      return end_at_gate(execution_id, e, said, gates[1])
    end
    set_status(e, said.status)
    e.stamp = said.stamp
  elseif said.word ~= 'queued' then
    mark_end(e, '')
  end
  e.slot, e.incarnation = '', ''
  save_execution(execution_id, e)
  return said.word == 'queued' and 'released' or 'ended'
end

-- Of several ends the newest counts: a start that is older than it is none.
local function keep_end(execution_id, e, said)
  if is_unproved_end(e) and not has_open_claim(e) and is_news(e, said) then
    e.stamp = said.stamp .. ENDED
    save_execution(execution_id, e)
  end
  return 'kept'
end

local function end_by_other(execution_id, e, said, intent)
  if intent then
    local is_end_of_it = not has_open_claim(e) and (not is_seen_to_run(e) or is_news(e, said))
    if is_end_of_it and is_unsettled(execution_id) then
      return settle_with(execution_id, e, said, 'ended_itself', intent)
    end
    return keep_end(execution_id, e, said)
  end
  if is_terminal(e.status) then
    return keep_end(execution_id, e, said)
  end
  local gates = not has_open_claim(e) and gates_over_end(execution_id, e, said) or {}
  if #gates > 0 then
    return end_at_gate(execution_id, e, said, gates[1])
  end
  if said.word == 'cancelled' then
    return 'cancel_wanted'
  end
  set_status(e, said.status)
  e.stamp = said.stamp .. ENDED
  save_execution(execution_id, e)
  return 'changed'
end

-- A start that was not known when it was settled. One that is older than its end is none.
local function is_evidence(execution_id, e, said)
  local ack = read_ack(execution_id)
  if ack.disposition == 'ended_itself' and ack.slot == '' then
    return is_news(e, said)
  end
  return ack.disposition == 'never_started' or (said.standing == 'newer' and RANK[ack.disposition] == 2)
end

local function start_told(execution_id, e, said, intent)
  local evidence = is_evidence(execution_id, e, said)
  if evidence or (is_seen_to_run(e) and is_news(e, said)) then
    see_start(execution_id, e, said)
  end
  return evidence and tell_again(execution_id, e, intent) or 'kept'
end

local function say_by_other(execution_id, e, said, intent)
  local runs = said.word == 'running'
  if intent then
    return runs and start_told(execution_id, e, said, intent) or 'kept'
  end
  if not is_news(e, said) then
    return 'kept'
  end
  local gates = runs and covering_cancels(execution_id, e.parent) or {}
  if is_terminal(e.status) then
    if not runs or has_open_claim(e) or not is_unproved_end(e) then
      return 'kept'
    end
    see_start(execution_id, e, said)
    if #gates == 0 then
      return 'started_again'
    end
    tell_at_gate(execution_id, e, gates)
    return 'reopened'
  end
  change_status(execution_id, e, said)
  if #gates > 0 then
    tell_at_gate(execution_id, e, gates)
    return 'cancelled'
  end
  return 'changed'
end

local function say_by_holder(execution_id, e, said, intent)
  if intent or is_terminal(e.status) or not is_news(e, said) then
    return 'kept'
  end
  change_status(execution_id, e, said)
  return 'changed'
end

-- A claim that was not known: recorded whatever the status says, so that its end can be told from others.
local function claim_by_event(execution_id, e, said, intent)
  local news, has_ended = is_news(e, said), is_terminal(e.status)
  local evidence = intent and is_evidence(execution_id, e, said)
  if has_ended and not news and not (intent and (evidence or has_open_claim(e)
      or is_unsettled(execution_id))) then
    return 'kept'
  end
  take_claim(e, said)
  if news and not has_ended then
    set_status(e, said.status)
    e.stamp = said.stamp
  end
  save_execution(execution_id, e)
  if evidence then
    return tell_again(execution_id, e, intent)
  end
  local gates = not intent and covering_cancels(execution_id, e.parent) or {}
  if #gates > 0 then
    tell_at_gate(execution_id, e, gates)
    return has_ended and 'reopened' or 'cancelled'
  end
  return 'claimed'
end

local function report_known(execution_id, e, said)
  local intent = get_field(intents_key, execution_id)
  said.standing = standing(execution_id, e, said)
  if said.standing == 'late' then
    audit('late_event', '', execution_id .. ' start ' .. said.start .. ' ' .. said.status)
    return 'late'
  end
  if said.status == '' or said.standing == 'ended' then
    return 'kept'
  end
  if said.ends then
    local end_by = said.standing == 'nobody' and end_by_other or end_by_holder
    return end_by(execution_id, e, said, intent)
  end
  if said.standing == 'newer' then
    return claim_by_event(execution_id, e, said, intent)
  end
  local say_by = said.standing == 'nobody' and say_by_other or say_by_holder
  return say_by(execution_id, e, said, intent)
end

-- An end before its start, or a start before its creation: the record is made of what is said.
local function report_new(execution_id, said)
  local is_foreign_cancel = said.word == 'cancelled' and said.worker_id == ''
  function said.claim(e)
    if said.worker_id ~= '' then
      e.start = said.start
      if not said.ends then
        e.slot, e.incarnation = worker_slot(said.worker_id), said.incarnation
      end
    end
  end
  if said.status == '' or is_foreign_cancel then
    said.status, said.stamp = 'pending', ''
  end
  local code, e = record_new(execution_id, said, reopened)
  if code ~= 'registered' then
    return code == 'run_cancelled' and 'cancelled' or code
  end
  if is_foreign_cancel then
    return 'cancel_wanted'
  end
  local gates = is_terminal(e.status) and gates_over_end(execution_id, e, said) or {}
  if #gates > 0 then
    said.slot = said.worker_id ~= '' and worker_slot(said.worker_id) or ''
    return end_at_gate(execution_id, e, said, gates[1])
  end
  return has_open_claim(e) and 'claimed' or 'changed'
end

local function report(execution_id, said)
  said.word = canonical(said.status)
  said.ends = IS_TERMINAL[said.word] or (said.word == 'queued' and said.worker_id ~= '')
  local occurred, ms, number = string.match(said.stamp, '^(%d+),(%d+),(%d+)$')
  said.occurred, said.ms, said.number = tonumber(occurred), tonumber(ms), tonumber(number)
  local e = read_execution(execution_id)
  if not e then
    return report_new(execution_id, said)
  end
  local code = record_known(execution_id, e, said, reopened)
  if code == 'too_deep' then
    return code
  end
  local said_of_it = report_known(execution_id, e, said)
  return code == 'parent_conflict' and code or said_of_it
end

local answer, ids = { 'reported', reopened }, ids_from(first_execution_id, 10)
expect(executions_key, ids)
expect(intents_key, ids)
for i = first_execution_id, #ARGV, 10 do
  answer[#answer + 1] = report(ARGV[i], { status = ARGV[i + 1], parent = ARGV[i + 2], agent_node = ARGV[i + 3],
    reasoner = ARGV[i + 4], started_us = ARGV[i + 5], stamp = ARGV[i + 6], worker_id = ARGV[i + 7],
    incarnation = ARGV[i + 8], start = ARGV[i + 9] })
end
notify(events, settle_operations(ended))
keep_run()
return answer
