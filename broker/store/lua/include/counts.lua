-- What is counted of a cancel, by the script that makes it so: hence once each time it is so, however many replicas
-- there are and whoever dies. In the run's own hash, which lies in its slot; store/counts.py carries it on from there.
-- Added up first: a script call pays for each different field, not for each execution.
local counted, fields_counted = {}, {}

local function count(field, by)
  if not counted[field] then
    fields_counted[#fields_counted + 1] = field
  end
  counted[field] = (counted[field] or 0) + (by or 1)
end

-- Number of the first bound that is not below the lag: 100 us, 200 us, 400 us … (22 of them), then 5 min, then more.
local function bucket_of(lag_us)
  local fraction, exponent = math.frexp(lag_us / 100)
  local bucket = math.max(0, fraction == 0.5 and exponent - 1 or exponent)
  if bucket > 21 then
    bucket = lag_us <= 300000000 and 22 or 23
  end
  return bucket
end

-- From the message to this answer. What the script that wrote the intent has settled itself has no lag.
local function count_lag(point, agent_node, disposition, published_us)
  local lag_us = math.max(0, now - tonumber(published_us))
  if now_us == published_us then
    return count('settled_without_lag|' .. disposition)
  end
  local labels = point .. '|' .. agent_node .. '|' .. disposition .. '|'
  count(labels .. string.format('%.0f', bucket_of(lag_us)))
  count(labels .. 'sum_us', lag_us)
end

-- Whether the hash may be new, and has no end yet.
local function save_counts()
  local may_be_new = false
  for _, field in ipairs(fields_counted) do
    local after = redis.call('HINCRBY', counts_key, field, string.format('%.0f', counted[field]))
    may_be_new = may_be_new or after == counted[field]
  end
  return may_be_new
end
