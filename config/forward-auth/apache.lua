-- Asks Portcullis whether a request may pass, and says which way it goes.

package.path = package.path .. ";/usr/share/lua/5.3/?.lua"
package.cpath = package.cpath .. ";/usr/lib/x86_64-linux-gnu/lua/5.3/?.so;/usr/lib/aarch64-linux-gnu/lua/5.3/?.so"
local http = require("socket.http")

local QUESTIONS = "http://127.0.0.1:8081/"
local GATEWAY = "http://127.0.0.1:8080"
local APPLICATION = "http://127.0.0.1:3000"

-- What the gateway decides by. Whatever else is in the request is looked at for aliases of the identity header.
local ASKED_WITH = {
  "Cookie", "Authorization", "Host", "Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Accept", "rid",
  "anti-csrf", "st-auth-mode", "User-Agent", "Sec-WebSocket-Key", "Content-Type",
}
local IDENTITY = "x-user-id"

local function names_identity(headers)
  for name in pairs(headers) do
    if name:lower():gsub("[^%w]", "-") == IDENTITY then
      return true
    end
  end
  return false
end

local function send(r, to)
  r.handler = "proxy-server"
  r.proxyreq = apache2.PROXYREQ_REVERSE
  -- As it came: that is what was asked about.
  r.notes["proxy-nocanon"] = "1"
  r.filename = "proxy:" .. to .. r.unparsed_uri
  return apache2.OK
end

function ask(r)
  if names_identity(r:headers_in_table()) or r.unparsed_uri:sub(1, 1) ~= "/" then
    return send(r, GATEWAY)
  end
  local headers = {
    ["x-forwarded-method"] = r.method,
    ["x-forwarded-uri"] = r.unparsed_uri,
    ["x-forwarded-for"] = r.useragent_ip,
  }
  for _, name in ipairs(ASKED_WITH) do
    headers[name:lower()] = r.headers_in[name]
  end
  local answered, status, answer = http.request({ url = QUESTIONS, headers = headers, redirect = false })
  if not answered or status ~= 200 then
    return send(r, GATEWAY)
  end
  r.headers_in["X-User-Id"] = answer["x-user-id"]
  for _, name in ipairs({ "cookie", "authorization" }) do
    local rest = answer[name]
    r.headers_in[name] = rest ~= "" and rest or nil
  end
  return send(r, APPLICATION)
end
