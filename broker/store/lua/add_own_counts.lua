-- Adds what a process has counted of itself to the counts of all: once, however often it is sent.
-- KEYS counts told
-- ARGV number: of this message; each process counts its own, rising
-- ARGV told_ttl_s: how long a repeat is known for one
-- ARGV (field by)...: the counter, and by how much it rises
-- RETURNS added: by this call
-- RETURNS known: by an earlier one
if tonumber(redis.call('GET', told_key) or '0') >= tonumber(number) then
  return { 'known' }
end
redis.call('SET', told_key, number, 'EX', told_ttl_s)
for i = first_field, #ARGV, 2 do
  redis.call('HINCRBY', counts_key, ARGV[i], ARGV[i + 1])
end
return { 'added' }
