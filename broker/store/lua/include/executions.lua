-- Reads and writes the compact record of an execution, and keeps the run's count of active ones.
-- What is seldom looked at stays in one piece, `origin`: reasoner, started_us and registered_us. Each part of its own
-- would cost a string, and more than eight fields a table of twice the size.
local function parse_execution(raw)
  local status, parent, agent_node, origin, slot, incarnation, start, stamp = string.match(
    raw, '^([^|]*)|([^|]*)|([^|]*)|([^|]*|[^|]*|[^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)$')
  return {
    status = status, parent = parent, agent_node = agent_node, origin = origin,
    slot = slot, incarnation = incarnation, start = start, stamp = stamp,
  }
end

local function read_execution(execution_id)
  local raw = get_field(executions_key, execution_id)
  return raw and parse_execution(raw) or nil
end

local function save_execution(execution_id, e)
  set_field(executions_key, execution_id, e.status .. '|' .. e.parent .. '|' .. e.agent_node .. '|' .. e.origin .. '|'
    .. e.slot .. '|' .. e.incarnation .. '|' .. e.start .. '|' .. e.stamp)
end

-- Answers whether there was a gap to fill.
local function fill_origin(e, reasoner, started_us)
  local known_reasoner, known_start, registered_us = string.match(e.origin, '^([^|]*)|([^|]*)|([^|]*)$')
  if (known_reasoner ~= '' or reasoner == '') and (known_start ~= '' or started_us == '') then
    return false
  end
  e.origin = (known_reasoner ~= '' and known_reasoner or reasoner) .. '|'
    .. (known_start ~= '' and known_start or started_us) .. '|' .. registered_us
  return true
end

-- Every execution that is held has three times, often the same one, and sixteen digits take memory: a started_us that is
-- registered_us, and a stamp that is started_us, are written as this.
local SAME = '='

local function start_now(e)
  local reasoner, registered_us = string.match(e.origin, '^([^|]*)|[^|]*|([^|]*)$')
  e.origin = reasoner .. '|' .. (registered_us == now_us and SAME or now_us) .. '|' .. registered_us
end

local function stamp_of(e)
  if e.stamp ~= SAME then
    return e.stamp
  end
  local started_us, registered_us = string.match(e.origin, '^[^|]*|([^|]*)|([^|]*)$')
  return started_us == SAME and registered_us or started_us
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
    status = status, parent = parent, agent_node = agent_node, origin = reasoner .. '|' .. started_us .. '|' .. now_us,
    slot = '', incarnation = '', start = '0', stamp = '',
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
