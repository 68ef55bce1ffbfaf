-- A worker is alive: writes its record and moves its end in one step, so that none is left without one.
-- KEYS worker
-- ARGV incarnation: of the process
-- ARGV agent_node: group, empty for none
-- ARGV held: number of executions
-- ARGV ttl_ms: how long the record lives without another heartbeat
-- RETURNS seen_at_us: decimal text
-- INCLUDE clock
redis.call('HSET', worker_key, 'incarnation', incarnation, 'agent_node_id', agent_node, 'held', held,
  'seen_at_us', now_us)
redis.call('PEXPIRE', worker_key, ttl_ms)
return now_us
