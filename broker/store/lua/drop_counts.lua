-- The batch is counted: it goes, unless it is another one by now.
-- KEYS run_keys
-- ARGV batch_id: of the batch that is counted
-- RETURNS dropped: now or before
if redis.call('HGET', counts_batch_key, '#') == batch_id then
  redis.call('UNLINK', counts_batch_key)
end
return { 'dropped' }
