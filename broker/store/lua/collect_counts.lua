-- Takes what the run has counted aside as a batch, to be carried to the counts of all. One is under way at a time.
-- KEYS counts counts_batch
-- RETURNS batch: its id, which is its last line too, and the present time
-- RETURNS nothing: there is none
-- INCLUDE clock
if redis.call('EXISTS', counts_batch_key) == 0 then
  if redis.call('EXISTS', counts_key) == 0 then
    return { 'nothing' }
  end
  redis.call('RENAME', counts_key, counts_batch_key)
  redis.call('APPEND', counts_batch_key, '#' .. now_us .. '\n')
end
return { 'batch', redis.call('GETRANGE', counts_batch_key, -17, -2), now_us }
