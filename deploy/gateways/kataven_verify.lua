-- Has Kataven verify the credential of a request. Adds the X-Kataven headers, or responds with Kataven's refusal.
--
--     http-request lua.kataven_verify http://127.0.0.1:8000/v1/verify
--
-- Everything that is not a 200 refuses the request: an unreachable Kataven is 503.

local TIMEOUT_MS = 5000
local SENT = {"authorization", "x-account-id", "x-request-id", "accept"}
local IDENTITY = {
  "x-kataven-account", "x-kataven-principal", "x-kataven-key-id", "x-kataven-role", "x-kataven-scopes",
}
local RELAYED = {"content-type", "www-authenticate", "retry-after", "ratelimit-policy", "ratelimit", "x-kataven-code"}
local REFUSALS = {[401] = true, [403] = true, [429] = true, [503] = true}
local UNAVAILABLE = '{"title":"Service unavailable","status":503,"code":"unavailable",'
  .. '"detail":"The credential cannot be checked right now."}'

local function first(headers, name)
  local values = headers and headers[name]
  return values and (values[0] or values[1])
end

local function refuse(txn, response)
  local reply = txn:reply()
  reply:add_header("cache-control", "no-store")
  -- HAProxy's own 503, for a Kataven that it can't reach, has no code.
  if response and REFUSALS[response.status] and first(response.headers, "x-kataven-code") then
    reply:set_status(response.status)
    for _, name in ipairs(RELAYED) do
      local value = first(response.headers, name)
      if value then reply:add_header(name, value) end
    end
    reply:set_body(response.body or "")
  else
    reply:set_status(503)
    reply:add_header("content-type", "application/problem+json")
    reply:add_header("retry-after", "1")
    reply:set_body(UNAVAILABLE)
  end
  txn:done(reply)
end

core.register_action("kataven_verify", {"http-req"}, function(txn, url)
  local given, headers = txn.http:req_get_headers(), {["x-forwarded-for"] = {txn.f:src()}}
  for _, name in ipairs(SENT) do
    local value = first(given, name)
    if value then headers[name] = {value} end
  end
  local cost = txn:get_var("txn.kataven_cost") or 1
  local called, response = pcall(function()
    return core.httpclient():get({url = url .. "?cost=" .. cost, headers = headers, timeout = TIMEOUT_MS})
  end)
  if not called or not response or response.status ~= 200 or not first(response.headers, "x-kataven-account") then
    return refuse(txn, called and response)
  end
  for _, name in ipairs(IDENTITY) do
    local value = first(response.headers, name)
    if value and value ~= "" then txn.http:req_set_header(name, value) end
  end
  txn:set_var("txn.kataven_ratelimit", first(response.headers, "ratelimit"))
  txn:set_var("txn.kataven_ratelimit_policy", first(response.headers, "ratelimit-policy"))
end, 1)
