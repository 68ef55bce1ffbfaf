-- What is counted of a cancel, by the script that makes it so: hence once each time it is so, however many replicas
-- there are and whoever dies. Lines in the run's own slot, one write a call; store/counts.py adds them up.
local counted = {}

local function count(line)
  counted[#counted + 1] = line
end

-- An answer: heard, stopped, or both at once. Its lag is what is between the message and the time of this call.
local function count_answer(points, agent_node, disposition, published_us)
  counted[#counted + 1] = points .. '|' .. agent_node .. '|' .. disposition .. '|' .. published_us
end

local function save_counts()
  if #counted == 0 then
    return
  end
  counted[#counted + 1] = '@' .. now_us .. '\n'
  local lines = table.concat(counted, '\n')
  if redis.call('APPEND', counts_key, lines) == #lines then
    note_made(counts_key)
  end
end
