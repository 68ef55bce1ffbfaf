-- Lost: its holder is proved gone. The claim is closed, and kept in the ack record, so that it is known again
-- if its holder speaks after all: a proof of death can be mistaken.
local function lose_claim(execution_id, e, proof)
  local ack = read_ack(execution_id)
  ack.disposition, ack.start, ack.slot = 'lost', e.start, e.slot
  ack.settled_us, ack.detail = now_us, proof
  save_ack(execution_id, ack)
  e.slot, e.incarnation = '', ''
  save_execution(execution_id, e)
  set_settled(execution_id)
  count('settled_without_lag|lost')
end

-- One line of the log a script call, however many are lost by it. The epoch tells a worker that does live.
local function note_lost(lost)
  if #lost > 0 then
    redis.call('HINCRBY', run_key, 'epoch', 1)
    audit('lost', '', table.concat(lost, ', '))
  end
end
