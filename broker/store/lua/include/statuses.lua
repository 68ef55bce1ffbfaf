-- The words a status may be reported with, and which of them end an execution.
-- A test compares these tables with broker/protocol/states.py.
local IS_TERMINAL = {
  pending = false, queued = false, running = false, waiting = false, paused = false, unknown = false,
  succeeded = true, failed = true, cancelled = true, timeout = true,
}

-- Few calls meet another word than those, so the table is made where one is met.
local aliases
local function read_aliases()
  aliases = aliases or {
    wait = 'queued',
    in_progress = 'running', processing = 'running',
    awaiting_approval = 'waiting', awaiting_human = 'waiting', approval_pending = 'waiting',
    pause = 'paused', hold = 'paused', on_hold = 'paused', suspended = 'paused',
    success = 'succeeded', successful = 'succeeded', completed = 'succeeded', complete = 'succeeded',
    done = 'succeeded', ok = 'succeeded',
    error = 'failed', failure = 'failed', errored = 'failed',
    canceled = 'cancelled', cancel = 'cancelled',
    timed_out = 'timeout',
  }
  return aliases
end

local function canonical(word)
  if IS_TERMINAL[word] ~= nil then
    return word
  end
  local plain = string.lower(string.match(word, '^%s*(.-)%s*$'))
  return IS_TERMINAL[plain] ~= nil and plain or read_aliases()[plain] or 'unknown'
end

local function is_terminal(word)
  local known = IS_TERMINAL[word]
  if known ~= nil then
    return known
  end
  return IS_TERMINAL[canonical(word)]
end
