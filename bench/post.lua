-- wrk: POST bodies to one path, each event with a dedup_id that no other has.
-- Arguments: the API key, a name for the run, events per request (0: the lines of a file, one by one), [the file].
-- With the environment variable REPEAT_EVERY=n every n-th event repeats the dedup_id of one that was sent before.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

local sent = 0
-- 501 events back: with an even n that is one which repeats none, and it was answered long ago.
local REPEATED = 501
local repeat_every = tonumber(os.getenv("REPEAT_EVERY") or "0")
repeated = 0
local head, prefix, per_request, lines

function init(args)
  head = "Host: " .. wrk.host .. ":" .. wrk.port .. "\r\nContent-Type: application/json\r\nAuthorization: Bearer "
    .. args[1] .. "\r\nContent-Length: "
  prefix = args[2] .. "-" .. number .. "-"
  per_request = tonumber(args[3])
  if per_request == 0 then
    lines = {}
    for line in io.lines(args[4]) do table.insert(lines, line) end
  end
end

local function event()
  sent = sent + 1
  local id = sent
  if repeat_every > 0 and sent > REPEATED and sent % repeat_every == 0 then
    id = sent - REPEATED
    repeated = repeated + 1
  end
  return '{"type":"order.paid","payload":{"order":' .. id .. ',"amount":129900,"currency":"EUR","customer":'
    .. '"cus_8f14e45f","items":[{"sku":"A-1","quantity":2},{"sku":"B-7","quantity":1}]},"dedup_id":"'
    .. prefix .. id .. '"}'
end

function request()
  local body
  if per_request == 1 then
    body = event()
  elseif per_request == 0 then
    sent = sent + 1
    body = lines[sent % #lines + 1]
  else
    local events = {}
    for i = 1, per_request do events[i] = event() end
    body = "[" .. table.concat(events, ",") .. "]"
  end
  return "POST " .. wrk.path .. " HTTP/1.1\r\n" .. head .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency, requests)
  local errors = summary.errors
  local again = 0
  for _, thread in ipairs(threads) do again = again + thread:get("repeated") end
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%f,"p50":%f,"p95":%f,"p99":%f,"longest":%f,"refused":%d,"broken":%d,'
      .. '"repeated":%d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout, again))
end
