-- Asks Portcullis whether a request may pass; haproxy.cfg says what becomes of the answer.

local QUESTIONS = "http://127.0.0.1:8081/"

-- Between HAProxy and its client, or said anew here.
local KEPT_BACK = {
  ["connection"] = true, ["keep-alive"] = true, ["te"] = true, ["trailer"] = true, ["transfer-encoding"] = true,
  ["upgrade"] = true, ["content-length"] = true, ["expect"] = true, ["proxy-connection"] = true,
  ["x-forwarded-method"] = true, ["x-forwarded-uri"] = true, ["x-forwarded-host"] = true, ["x-forwarded-for"] = true,
}

core.register_action("portcullis", { "http-req" }, function(txn)
  local headers = {}
  for name, values in pairs(txn.http:req_get_headers()) do
    if not KEPT_BACK[name] then
      headers[name] = {}
      for _, value in pairs(values) do
        table.insert(headers[name], value)
      end
    end
  end
  headers["x-forwarded-method"] = { txn.sf:method() }
  headers["x-forwarded-uri"] = { txn:get_var("txn.pathq") }
  headers["x-forwarded-for"] = { txn.sf:src() }
  local answer = core.httpclient():get({ url = QUESTIONS, headers = headers, timeout = 5000 })
  if not answer or answer.status ~= 200 then
    return
  end
  local function first(name)
    local values = answer.headers[name]
    return values and (values[0] or values[1])
  end
  txn:set_var("txn.portcullis_passes", true)
  txn:set_var("txn.portcullis_cookie", first("cookie") or "")
  txn:set_var("txn.portcullis_authorization", first("authorization") or "")
  if first("x-user-id") then
    txn:set_var("txn.portcullis_user", first("x-user-id"))
  end
end)
