-- wrk, a connection per thread: kinds of requests by weight, or so many of one kind, each timed.
-- Arguments: the API key, a name for the run, "mixed" or one of the kinds, how many per thread (0: no end),
-- a file with the ids of events to acknowledge (for "ack").
-- With the environment variable UNDER the routes are under another path than /v1.

local here = debug.getinfo(1, "S").source:match("^@(.*/)") or ""
local shared = dofile(here .. "percentiles.lua")
local threads = {}
local KINDS = { "ingest", "inbox", "ack", "events" }

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

local under = os.getenv("UNDER") or "/v1"
local headers, prefix, only, limit
local ids, sent, kind, began = {}, 0, nil, 0
first_began, last_ended = nil, 0
took_ingest, took_inbox, took_ack, took_events, refused = {}, {}, {}, {}, 0

function init(args)
  headers = { ["X-API-Key"] = args[1], ["Content-Type"] = "application/json" }
  prefix = args[2] .. "-" .. number .. "-"
  only = args[3] ~= "mixed" and args[3] or nil
  limit = tonumber(args[4])
  if args[5] then
    local line = 0
    for id in io.lines(args[5]) do
      line = line + 1
      if line % 10 == number % 10 then table.insert(ids, id) end
    end
  end
  math.randomseed(number)
end

local function choose()
  if only then return only end
  local chance = math.random()
  if chance < 0.7 then return "ingest" end
  if chance < 0.9 then return "inbox" end
  return #ids > 0 and "ack" or "ingest"
end

function request()
  kind = choose()
  local made
  if kind == "ingest" then
    sent = sent + 1
    made = wrk.format("POST", under .. "/events", headers,
      '{"type":"order.paid","payload":{"order":' .. sent .. ',"amount":129900},"dedup_id":"' .. prefix .. sent .. '"}')
  elseif kind == "inbox" then
    made = wrk.format("GET", under .. "/inbox", headers)
  elseif kind == "events" then
    made = wrk.format("GET", under .. "/events", headers)
  else
    made = wrk.format("POST", under .. "/ack", headers, '{"event_ids":["' .. (table.remove(ids) or "") .. '"]}')
  end
  began = shared.now()
  first_began = first_began or began
  return made
end

function response(status, _, body)
  local took = _G["took_" .. kind]
  last_ended = shared.now()
  took[#took + 1] = last_ended - began
  if status >= 300 then refused = refused + 1 end
  if kind == "ingest" then
    local id = string.match(body, '"id":"([^"]+)"')
    if id then ids[#ids + 1] = id end
  end
  if limit > 0 and #took >= limit then wrk.thread:stop() end
end

-- Seconds from the first request to the last answer: a run of so many requests may end before wrk does.
local function span()
  local first, last = math.huge, 0
  for _, thread in ipairs(threads) do
    first = math.min(first, thread:get("first_began") or math.huge)
    last = math.max(last, thread:get("last_ended"))
  end
  return math.max(0, last - first) / 1e3
end

function done()
  local together, wrong, seconds = {}, 0, span()
  for _, thread in ipairs(threads) do wrong = wrong + thread:get("refused") end
  for _, kind in ipairs(KINDS) do
    local all = {}
    for _, thread in ipairs(threads) do
      for _, took in pairs(thread:get("took_" .. kind)) do
        all[#all + 1] = took
        together[#together + 1] = took
      end
    end
    if #all > 0 then shared.print(kind, all, seconds, wrong) end
  end
  shared.print("all", together, seconds, wrong)
end
