-- For wrk: posts one body again and again, as fast as the connections allow or at a steady rate, and prints what it saw
-- as one line of JSON.
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long s; long ns; } bench_time;
  int clock_gettime(int clock, bench_time *time);
]]
local time = ffi.new("bench_time")
local MONOTONIC = ffi.os == "OSX" and 6 or 1
local LONGEST_LAG_MS = 50

local function now_ms()
  ffi.C.clock_gettime(MONOTONIC, time)
  return tonumber(time.s) * 1e3 + tonumber(time.ns) / 1e6
end

local request_text, interval_ms, next_ms

function init()
  local headers = {
    ["Authorization"] = "Bearer " .. os.getenv("MILLWORK_BENCH_TOKEN"),
    ["Content-Type"] = "application/json",
  }
  request_text = wrk.format("POST", nil, headers, os.getenv("MILLWORK_BENCH_BODY"))
  interval_ms = tonumber(os.getenv("MILLWORK_BENCH_INTERVAL_MS"))
  next_ms = now_ms()
end

function request()
  return request_text
end

-- Asked before each request of a connection: this thread's requests leave one interval apart, whichever connection is
-- free. What was missed in a pause is not made up for beyond a moment.
if os.getenv("MILLWORK_BENCH_INTERVAL_MS") ~= "0" then
  function delay()
    local now = now_ms()
    next_ms = math.max(next_ms + interval_ms, now - LONGEST_LAG_MS)
    return math.max(0, math.floor(next_ms - now + 0.5))
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
