-- A worker is alive: writes its record and moves its end in one step, so that none is left without one.
-- KEYS worker
-- ARGV incarnation: of the process
-- ARGV agent_node: group, empty for none
-- ARGV held: number of executions
-- ARGV ttl_ms: how long the record lives without another heartbeat
-- RETURNS beaten: its incarnation, when
-- RETURNS fenced: incarnation of the newer process whose record this is; nothing was written
-- INCLUDE clock
local of_record = redis.call('HGET', worker_key, 'incarnation')
if of_record and tonumber(of_record) > tonumber(incarnation) then
  return { 'fenced', of_record }
end
redis.call('HSET', worker_key, 'incarnation', incarnation, 'agent_node_id', agent_node, 'held', held,
  'seen_at_us', now_us)
redis.call('PEXPIRE', worker_key, ttl_ms)
return { 'beaten', incarnation, now_us }
