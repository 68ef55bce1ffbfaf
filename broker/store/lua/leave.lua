-- A worker has ended in good order: its record goes at once, unless it is a newer process's by now.
-- KEYS worker
-- ARGV incarnation: of the process that leaves
-- RETURNS left: its record is gone
-- RETURNS fenced: incarnation of the newer process whose record this is; nothing was written
local of_record = redis.call('HGET', worker_key, 'incarnation')
if of_record and tonumber(of_record) > tonumber(incarnation) then
  return { 'fenced', of_record }
end
redis.call('DEL', worker_key)
return { 'left' }
