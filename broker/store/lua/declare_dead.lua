-- Raises the counter of a worker id above an incarnation that somebody declares dead: that is the proof.
-- The caller has made sure that its heart does not beat; the heartbeat's key may lie in another slot.
-- KEYS incarnation
-- ARGV dead: the incarnation
-- RETURNS dead: the counter, above that incarnation now or before
-- RETURNS unknown: the worker id has never had this incarnation; nothing was written
local newest = redis.call('GET', incarnation_key)
if not newest or tonumber(newest) < tonumber(dead) then
  return { 'unknown' }
end
if tonumber(newest) == tonumber(dead) then
  redis.call('INCR', incarnation_key)
end
return { 'dead', redis.call('GET', incarnation_key) }
