-- The one clock: Redis TIME, as decimal text in microseconds and in whole milliseconds.
-- Stamps leave Lua as text only: number-to-text keeps 14 digits, a stamp has 16.
local clock = redis.call('TIME')
local now_us = clock[1] .. string.sub('00000' .. clock[2], -6)
local now = tonumber(now_us)
local now_ms = math.floor(now / 1000)
