-- The one clock: Redis TIME, as decimal text in microseconds and in whole milliseconds.
-- Stamps leave Lua as text only: number-to-text keeps 14 digits, a stamp has 16.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_us = string.format('%.0f', now)
local now_ms = math.floor(now / 1000)
