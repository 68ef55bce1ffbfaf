-- What a script reads of the hashes executions, intents and acks, and what it writes there and to the unsettled.
-- A call from Lua costs more than what it is for, so a chunk is read in one (`expect`) and written in one
-- (`write_out`); in between, what was written is what is read. Nothing else may touch these keys.
local pages, page_keys = {}, {}
local unsettled_change, changed_ids = {}, {}
local outbox = {}

local function page_of(key)
  local page = pages[key]
  if not page then
    page = { values = {}, written = {}, is_written = {} }
    pages[key] = page
    page_keys[#page_keys + 1] = key
  end
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

local function expect(key, ids)
  if #ids > 1 then
    local values, found = page_of(key).values, redis.call('HMGET', key, unpack(ids))
    for i, id in ipairs(ids) do
      values[id] = found[i]
    end
  end
end

-- The value, or false.
local function get_field(key, id)
  local values = page_of(key).values
  if values[id] == nil then
    values[id] = redis.call('HGET', key, id)
  end
  return values[id]
end

-- A value of false takes the field away.
local function set_field(key, id, value)
  local page = page_of(key)
  page.values[id] = value
  if not page.is_written[id] then
    page.is_written[id] = true
    page.written[#page.written + 1] = id
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

-- A message that goes out once everything is written; `unheard` is called where nobody was subscribed.
local function post(channel, payload, unheard)
  outbox[#outbox + 1] = { channel = channel, payload = payload, unheard = unheard }
end

local function call_with(command, key, arguments)
  if #arguments > 0 then
    redis.call(command, key, unpack(arguments))
  end
end

local function write_fields()
  for _, key in ipairs(page_keys) do
    local page = pages[key]
    if #page.written > 0 then
      local fields, gone = {}, {}
      for _, id in ipairs(page.written) do
        if page.values[id] then
          fields[#fields + 1], fields[#fields + 2] = id, page.values[id]
        else
          gone[#gone + 1] = id
        end
      end
      page.written, page.is_written = {}, {}
      call_with('HSET', key, fields)
      call_with('HDEL', key, gone)
    end
  end
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
  call_with('ZADD', unsettled_key, added)
  call_with('ZREM', unsettled_key, removed)
end

-- Before anything looks at the unsettled, and at the end of every script that writes (`keep_run`). The intents
-- before the messages: the intent is the truth, the message is the fast path.
local function write_out()
  write_fields()
  write_unsettled()
  local messages = outbox
  outbox = {}
  for _, message in ipairs(messages) do
    if tonumber(redis.call('PUBLISH', message.channel, message.payload)) == 0 then
      message.unheard()
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
