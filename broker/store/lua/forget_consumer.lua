-- Takes a consumer that is long dead off the group of the event stream, unless something is pending with it:
-- with the consumer that would be gone, too.
-- KEYS events
-- ARGV group: of the ingest
-- ARGV consumer: name of the replica
-- RETURNS forgotten: it is gone
-- RETURNS pending: somebody has to take over first what it has not acknowledged; nothing was changed
if #redis.call('XPENDING', events_key, group, '-', '+', '1', consumer) > 0 then
  return { 'pending' }
end
redis.call('XGROUP', 'DELCONSUMER', events_key, group, consumer)
return { 'forgotten' }
