-- wrk: POST one body after another to one path, with a number in each that no other has.
-- Environment: HEADERS (a line each), BODY with the word NUMBER where that number is to stand.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

local head, before, after
local sent = 0

function init()
  local body = os.getenv("BODY")
  local from, to = string.find(body, "NUMBER", 1, true)
  before, after = string.sub(body, 1, from - 1), string.sub(body, to + 1)
  head = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port .. "\r\n"
  for line in string.gmatch(os.getenv("HEADERS"), "[^\n]+") do head = head .. line .. "\r\n" end
end

function request()
  sent = sent + 1
  local body = before .. sent .. after
  return head .. "Content-Length: " .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%f,"p50":%f,"p95":%f,"p99":%f,"longest":%f,"refused":%d,"broken":%d,"repeated":0}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
