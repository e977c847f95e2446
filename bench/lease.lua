-- wrk, a connection per thread: lease, acknowledge the whole lease, lease again.
-- Arguments: the API key, messages per lease.

local lease_body, headers, lease_id

function init(args)
  headers = { ["Authorization"] = "Bearer " .. args[1], ["Content-Type"] = "application/json" }
  lease_body = '{"lease_limit":' .. args[2] .. '}'
end

function request()
  if lease_id then
    return wrk.format("POST", "/v1/inboxes/default/messages/ack", headers, '{"lease_id":"' .. lease_id .. '"}')
  end
  return wrk.format("POST", "/v1/inboxes/default/messages/lease", headers, lease_body)
end

function response(status, _, body)
  if lease_id then
    lease_id = nil
  else
    lease_id = string.match(body, '^{"lease_id":"([^"]+)"')
  end
end

function done(summary, latency)
  io.write(string.format('RESULT {"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    summary.errors.status, summary.errors.connect + summary.errors.read + summary.errors.timeout))
end
