-- What scripts share that time single requests: a clock, and the percentiles of a list.

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long seconds; long nanoseconds; } bench_time;
  int clock_gettime(int clock, bench_time *now);
]]
local moment = ffi.new("bench_time")

local shared = {}

function shared.now()
  ffi.C.clock_gettime(1, moment) -- CLOCK_MONOTONIC
  return tonumber(moment.seconds) * 1e3 + tonumber(moment.nanoseconds) / 1e6
end

function shared.print(kind, took, seconds, refused)
  table.sort(took)
  local function at(share) return took[math.max(1, math.ceil(#took * share))] or 0 end
  io.write(string.format(
    'RESULT {"kind":"%s","requests":%d,"seconds":%f,"p50":%f,"p95":%f,"p99":%f,"longest":%f,"refused":%d,"broken":0}\n',
    kind, #took, seconds, at(0.5), at(0.95), at(0.99), at(1), refused))
end

return shared
