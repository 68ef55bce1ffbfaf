-- The words a status may be reported with, and which of them end an execution.
-- A test compares this table with broker/protocol/states.py.
local CANONICAL = {
  pending = 'pending', queued = 'queued', wait = 'queued',
  running = 'running', in_progress = 'running', processing = 'running',
  waiting = 'waiting', awaiting_approval = 'waiting', awaiting_human = 'waiting', approval_pending = 'waiting',
  paused = 'paused', pause = 'paused', hold = 'paused', on_hold = 'paused', suspended = 'paused',
  unknown = 'unknown',
  succeeded = 'succeeded', success = 'succeeded', successful = 'succeeded', completed = 'succeeded',
  complete = 'succeeded', done = 'succeeded', ok = 'succeeded',
  failed = 'failed', error = 'failed', failure = 'failed', errored = 'failed',
  cancelled = 'cancelled', canceled = 'cancelled', cancel = 'cancelled',
  timeout = 'timeout', timed_out = 'timeout',
}
local TERMINAL = { succeeded = true, failed = true, cancelled = true, timeout = true }

local function canonical(word)
  return CANONICAL[word] or CANONICAL[string.lower(string.match(word, '^%s*(.-)%s*$'))] or 'unknown'
end

local function is_terminal(word)
  return TERMINAL[CANONICAL[word] or canonical(word)] == true
end
