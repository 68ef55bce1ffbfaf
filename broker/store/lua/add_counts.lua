-- Adds a run's batch to the counts of all runs, once. The first agent nodes have a label of their own, the rest share one.
-- KEYS counts nodes marker
-- ARGV collected_us: when the batch was read, Redis time
-- ARGV most_nodes: number of agent nodes with a label of their own
-- ARGV marker_ttl_s: longer than a batch can wait
-- ARGV (before agent_node after by)...: the field before and behind its agent node; by how much it rises
-- RETURNS added: by this call
-- RETURNS known: by an earlier one
-- RETURNS stale: it was read so long ago that its marker may have ended; nothing was written
-- INCLUDE clock
local STALE_US, OTHER = 600000000, 'other'
if now - tonumber(collected_us) > STALE_US then
  return { 'stale' }
end
if not redis.call('SET', marker_key, now_us, 'NX', 'EX', marker_ttl_s) then
  return { 'known' }
end

local labels = {}
local function label_of(agent_node)
  if redis.call('SISMEMBER', nodes_key, agent_node) == 1 then
    return agent_node
  end
  if redis.call('SCARD', nodes_key) < tonumber(most_nodes) then
    redis.call('SADD', nodes_key, agent_node)
    return agent_node
  end
  return OTHER
end

for i = first_before, #ARGV, 4 do
  local agent_node = ARGV[i + 1]
  if agent_node ~= '' and not labels[agent_node] then
    labels[agent_node] = label_of(agent_node)
  end
  redis.call('HINCRBY', counts_key, ARGV[i] .. (labels[agent_node] or '') .. ARGV[i + 2], ARGV[i + 3])
end
return { 'added' }
