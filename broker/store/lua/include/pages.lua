-- What a script reads of the hashes executions, intents and acks, and what it writes there and to the unsettled.
-- A call from Lua costs more than what it is for, so a chunk is read in one (`expect`) and written in one
-- (`write_out`); in between, what was written is what is read. Nothing else may touch these keys.
local pages, page_keys = {}, {}
local unsettled_change, changed_ids = {}, {}
local outbox = {}
local made, is_made = {}, {}

-- A key that this call may have made: it has yet to get the run's end (`keep_run`).
local function note_made(key)
  if not is_made[key] then
    is_made[key] = true
    made[#made + 1] = key
  end
end

-- `values` by id, false for none; `unwritten` as HSET takes it: id, value, id, value, ...; `length`: number of fields
-- before this call, where it was asked for.
local function new_page(key)
  local page = { values = {}, unwritten = {}, length = false }
  pages[key] = page
  page_keys[#page_keys + 1] = key
  return page
end

-- Every `stride`-th argument from `first`: the ids of a chunk.
local function ids_from(first, stride)
  local ids = {}
  for i = first, #ARGV, stride do
    ids[#ids + 1] = ARGV[i]
  end
  return ids
end

-- A run that nobody cancels has no intents: that is asked once, not for each id.
local function expect(key, ids)
  if #ids < 2 then
    return
  end
  local page = pages[key] or new_page(key)
  page.length = redis.call('HLEN', key)
  if page.length == 0 then
    return
  end
  local values, found = page.values, redis.call('HMGET', key, unpack(ids))
  for i = 1, #ids do
    values[ids[i]] = found[i]
  end
end

-- The value, or false.
local function get_field(key, id)
  local page = pages[key] or new_page(key)
  local value = page.values[id]
  if value == nil then
    value = page.length ~= 0 and redis.call('HGET', key, id)
    page.values[id] = value
  end
  return value
end

-- What is written twice running is sent once; of what else is sent twice, the last stands.
local function set_field(key, id, value)
  local page = pages[key] or new_page(key)
  local unwritten = page.unwritten
  local length = #unwritten
  page.values[id] = value
  if unwritten[length - 1] == id then
    unwritten[length] = value
  else
    unwritten[length + 1], unwritten[length + 2] = id, value
  end
end

local function note_unsettled(id, is_unsettled)
  if unsettled_change[id] == nil then
    changed_ids[#changed_ids + 1] = id
  end
  unsettled_change[id] = is_unsettled
end

local function set_unsettled(id)
  note_unsettled(id, true)
end

local function set_settled(id)
  note_unsettled(id, false)
end

-- A message for an execution, which goes out once everything is written. The outbox holds three entries for each.
local function post(execution_id, channel, payload)
  local length = #outbox
  outbox[length + 1], outbox[length + 2], outbox[length + 3] = execution_id, channel, payload
end

-- Where nothing is added the key was there before, and has its end.
local function add_pairs(command, key, arguments)
  if #arguments > 0 and redis.call(command, key, unpack(arguments)) > 0 then
    note_made(key)
  end
end

-- Redis keeps a hash of up to 512 short fields as a list, and walks all of it for a field that is not there: with many
-- to come, that is most of what a chunk costs. A long value makes a table of it, which it stays. No id is empty.
local LIST_LENGTH, MANY, LONG = 512, 10, string.rep('-', 65)
local function write_many(key, page)
  local is_list = page.length and page.length < LIST_LENGTH and #page.unwritten > 2 * MANY
  if is_list then
    redis.call('HSET', key, '', LONG)
  end
  add_pairs('HSET', key, page.unwritten)
  if is_list then
    redis.call('HDEL', key, '')
  end
end

local function write_fields()
  for _, key in ipairs(page_keys) do
    local page = pages[key]
    write_many(key, page)
    page.unwritten = {}
  end
end

-- Seldom needed, so it waits for nothing.
local function forget_field(key, id)
  write_fields()
  redis.call('HDEL', key, id)
  local page = pages[key] or new_page(key)
  page.values[id] = false
end

local function write_unsettled()
  local added, removed = {}, {}
  for _, id in ipairs(changed_ids) do
    if unsettled_change[id] then
      added[#added + 1], added[#added + 2] = now_us, id
    else
      removed[#removed + 1] = id
    end
  end
  unsettled_change, changed_ids = {}, {}
  add_pairs('ZADD', unsettled_key, added)
  if #removed > 0 then
    redis.call('ZREM', unsettled_key, unpack(removed))
  end
end

-- Before anything looks at the unsettled, and at the end of every script that writes (`keep_run`). The intents
-- before the messages: the intent is the truth, the message is the fast path. Where nobody was subscribed, the intent
-- says so behind its last separator.
local function write_out()
  write_fields()
  write_unsettled()
  local messages = outbox
  outbox = {}
  for i = 1, #messages, 3 do
    if redis.call('PUBLISH', messages[i + 1], messages[i + 2]) == 0 then
      local execution_id = messages[i]
      set_field(intents_key, execution_id, get_field(intents_key, execution_id) .. '0')
    end
  end
  write_fields()
end

local function is_unsettled(id)
  if unsettled_change[id] ~= nil then
    return unsettled_change[id]
  end
  return redis.call('ZSCORE', unsettled_key, id) and true or false
end
