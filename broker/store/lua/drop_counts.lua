-- The batch is counted: it goes, unless it is another one by now.
-- KEYS counts_batch
-- ARGV batch_id: of the batch that is counted
-- RETURNS dropped: now or before
if redis.call('GETRANGE', counts_batch_key, -17, -2) == batch_id then
  redis.call('UNLINK', counts_batch_key)
end
return { 'dropped' }
