-- Puts an operation on the work list before its gate closes, and says when (Redis time).
-- KEYS work_list
-- ARGV entry: "<run>|<cancel id>"
-- ARGV delay_us: after this time another replica takes the operation over
-- RETURNS listed_at_us: decimal text
-- INCLUDE clock
redis.call('ZADD', work_list_key, string.format('%.0f', now + tonumber(delay_us)), entry)
return now_us
