-- Reads and writes the compact record of an execution, and keeps the run's count of active ones.
local function parse_execution(raw)
  local status, parent, agent_node, reasoner, started_us, registered_us, slot, incarnation, start, stamp = string.match(
    raw, '^([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)$')
  return {
    status = status, parent = parent, agent_node = agent_node, reasoner = reasoner, started_us = started_us,
    registered_us = registered_us, slot = slot, incarnation = incarnation, start = start, stamp = stamp,
  }
end

local function read_execution(execution_id)
  local raw = get_field(executions_key, execution_id)
  return raw and parse_execution(raw) or nil
end

local function save_execution(execution_id, e)
  set_field(executions_key, execution_id, table.concat({ e.status, e.parent, e.agent_node, e.reasoner,
    e.started_us, e.registered_us, e.slot, e.incarnation, e.start, e.stamp }, '|'))
end

-- A status is changed only here, so that the count of active executions cannot drift, and so that it has
-- a stamp: the present time, unless an event says when it was so.
local function set_status(e, status)
  local before, after = is_terminal(e.status), is_terminal(status)
  if before ~= after then
    active_change = active_change + (after and -1 or 1)
  end
  e.status, e.stamp = status, now_us
end

local function new_execution(status, parent, agent_node, reasoner, started_us)
  if not is_terminal(status) then
    active_change = active_change + 1
  end
  return {
    status = status, parent = parent, agent_node = agent_node, reasoner = reasoner, started_us = started_us,
    registered_us = now_us, slot = '', incarnation = '', start = '0', stamp = '',
  }
end

local function has_open_claim(e)
  return e.slot ~= ''
end

-- What stands behind the stamp of a terminal status. ENDED: somebody said so who held nothing, and no holder has.
-- STARTED: nor was that the last of it, the stamp is of a start that was seen since then.
local ENDED, STARTED = '?', '+'

local function is_seen_to_run(e)
  return string.sub(e.stamp, -1) == STARTED
end

local function is_unproved_end(e)
  return e.start == '0' or string.match(e.stamp, '[?+]$') ~= nil
end

-- The mark of a terminal status goes with the holder's end, and stays where a claim stands for what was seen.
local function mark_end(e, mark)
  e.stamp = string.gsub(e.stamp, '[?+]$', '') .. mark
end
