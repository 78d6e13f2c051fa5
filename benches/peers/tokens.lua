-- wrk: asks for one path with a token after the other; arguments: file, path, how many lines to skip, how many to use.
-- Prints what came of it as one line of JSON.

local requests, current = {}, 0

function init(arguments)
  local file, path, skip, count = arguments[1], arguments[2], tonumber(arguments[3]), tonumber(arguments[4])
  local headers = {
    ["accept"] = "text/html,application/xhtml+xml",
    ["accept-language"] = "en-US,en;q=0.9",
    ["user-agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0",
    ["referer"] = "http://127.0.0.1/overview",
  }
  if file == "-" then
    requests[1] = wrk.format("GET", path, headers)
    return
  end
  headers["x-user-id"] = "forged"
  local number = 0
  for token in io.lines(file) do
    number = number + 1
    if number > skip + count then break end
    if number > skip then
      headers["cookie"] = "_ga=GA1.1.1; sAccessToken=" .. token .. "; theme=dark"
      requests[#requests + 1] = wrk.format("GET", path, headers)
    end
  end
end

function request()
  current = current % #requests + 1
  return requests[current]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format('{"requests":%d,"micros":%d,"failed":%d,"p50":%.1f,"p99":%.1f}\n',
    summary.requests, summary.duration, failed, latency:percentile(50), latency:percentile(99)))
end
