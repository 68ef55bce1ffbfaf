-- Takes what the run has counted out as a batch, to be carried to the counts of all. One batch is under way at a time.
-- KEYS run_keys
-- RETURNS batch: its id, and the present time
-- RETURNS nothing: there is none
-- INCLUDE clock
if redis.call('EXISTS', counts_batch_key) == 0 then
  if redis.call('EXISTS', counts_key) == 0 then
    return { 'nothing' }
  end
  redis.call('RENAME', counts_key, counts_batch_key)
  redis.call('HSET', counts_batch_key, '#', now_us)
end
return { 'batch', redis.call('HGET', counts_batch_key, '#'), now_us }
